"""Install request and license request: what is read, whom it is believed, what is no such document."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID
from hypothesis import given
from hypothesis import strategies as st

from licd.license import document, install, trust
from licd.license.document import (
    INSTALL_REQUEST,
    LICENSE_FILE,
    LICENSE_REQUEST,
    REFUSAL,
    RENEWAL_REQUEST,
    UNCHANGED,
    WITHDRAWN,
)
from licd.rpc.errors import (
    BAD_CERTIFICATE,
    BAD_DOCUMENT,
    BAD_SIGNATURE,
    DAMAGED_DOCUMENT,
    DOCUMENT_TOO_LARGE,
    LINES_DO_NOT_FIT,
    SIGNER_RETIRED,
    UNTRUSTED_SIGNER,
    WRONG_DOCUMENT,
    Refused,
)
from tests.support import pki
from tests.support.installing import (
    ANSWER,
    ASKED,
    FACTORS,
    KEY,
    OTHER,
    an_id,
    asked,
    b64url,
    no_answer,
    no_request,
    read_or_refused,
    refused,
)
from tests.support.pki import DAY, NOW
from tests.support.trusting import FILE, LINES, PROFILES, VENDOR, profile_of, verify

# --- what is accepted -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa"])
def test_an_install_request_signed_with_each_kind_of_key_is_read(kind: str) -> None:
    vendor = pki.Vendor(kind=kind, between=[{}])
    data = vendor.install_request(url="https://example.com/licd", x={"order": 4711})
    profiles = {"shop": profile_of(vendor)["acme"]._replace(name="shop")}
    assert asked(data, profiles) == install.InstallRequest(
        id="install-1",
        vendor="acme",
        profile="shop",
        issued=NOW,
        salt=b64url(bytes(range(16))),
        weights={"board_serial": 20, "disk": 30},
        share=50,
        url="https://example.com/licd",
        x={"order": 4711},
        text=data,
    )


def test_a_license_request_is_read() -> None:
    assert install.verify_license_request(ANSWER) == install.LicenseRequest(
        id="request-1",
        vendor="acme",
        install_request="install-1",
        issued=NOW,
        device=install.public_key(KEY),
        fingerprint={"board_serial": ["00ff00"], "disk": ["123456"]},
        unreadable=("product_serial",),
        software={"os": "debian", "os_version": "13", "architecture": "x86_64", "licd": "0.1.0"},
        machine={"kind": "physical", "name": None},
        rehost=False,
        text=ANSWER,
    )


def test_what_a_device_signs_reads_back_as_it_was_meant() -> None:
    made = install.sign_license_request(
        KEY,
        id="r-2",
        vendor="acme",
        install_request="i-1",
        issued=NOW + 0.75,
        fingerprint={"disk": ("123456", "abcdef")},
        unreadable=iter(["board_serial"]),
        software={"os": "linux", "os_version": "", "architecture": "riscv64", "licd": "0.1.0"},
        machine={"kind": "vm", "name": "kvm"},
        rehost=True,
    )
    assert made == install.verify_license_request(made.text)
    assert (made.issued, made.fingerprint, made.unreadable) == (NOW, {"disk": ["123456", "abcdef"]}, ("board_serial",))
    assert (made.machine, made.rehost, made.device) == ({"kind": "vm", "name": "kvm"}, True, install.public_key(KEY))


def test_the_same_request_signed_again_is_the_same_bytes() -> None:
    assert pki.license_request(KEY) == ANSWER != pki.license_request(OTHER)


def test_a_public_key_isFACTORS_bytes_in_base64url_from_either_half() -> None:
    text = install.public_key(KEY)
    assert text == install.public_key(KEY.public_key())
    assert document.b64url_decode(text.encode()) == KEY.public_key().public_bytes_raw()


def test_a_device_does_not_sign_what_no_license_request_may_say() -> None:
    found = refused(
        lambda data: install.sign_license_request(
            KEY,
            id="r-2",
            vendor="acme",
            install_request="i-1",
            issued=NOW,
            fingerprint={},
            unreadable=(),
            software={"os": "x" * 65, "os_version": "", "architecture": "x86_64", "licd": "0.1.0"},
            machine={"kind": "vm", "name": None},
            rehost=False,
        ),
        b"",
    )
    assert found.error is BAD_DOCUMENT
    assert "the member os must be printable text" in found.message


@pytest.mark.parametrize(
    "members",
    [
        {"weights": {"not_known_yet": 1}}, {"weights": dict.fromkeys(FACTORS, 1000)}, {"share": 1}, {"share": 100},
        {"url": "https://x"}, {"x": {}}, {"id": "A" * 64}, {"salt": b64url(bytes(16))},
        {"issued": "2026-01-01T00:00:00Z"},
    ],
    ids=an_id,
)  # fmt: skip
def test_an_install_request_just_within_the_bounds_is_read(members: dict[str, Any]) -> None:
    assert asked(VENDOR.install_request(**members)).vendor == "acme"


@pytest.mark.parametrize(
    "members",
    [
        {"fingerprint": {}}, {"fingerprint": {factor: ["00ff00"] for factor in FACTORS}}, {"unreadable": FACTORS},
        {"unreadable": []},
        {"fingerprint": {"disk": [f"{n:06x}" for n in range(64)]}}, {"machine": {"kind": "container", "name": "lxc"}},
        {"machine": {"kind": "vm", "name": None}}, {"rehost": True}, {"issued": "2000-01-01T00:00:00Z"},
        {"software": {"os": "", "os_version": "", "architecture": "x" * 64, "licd": "ё"}},
    ],
    ids=an_id,
)  # fmt: skip
def test_a_license_request_just_within_the_bounds_is_read(members: dict[str, Any]) -> None:
    assert install.verify_license_request(pki.license_request(KEY, **members)).id == "request-1"


@pytest.mark.parametrize(
    "travel",
    [
        pytest.param(lambda data: data.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(lambda data: b"\xef\xbb\xbf" + data, id="BOM"),
        pytest.param(lambda data: data.replace(b"\t", b"    ").replace(b"\n", b" \t \n\n"), id="blanks"),
        pytest.param(lambda data: data.rstrip(b"\n"), id="no last newline"),
        pytest.param(lambda data: "# для магазина {\n".encode() + data + b"# end\n", id="comments"),
    ],
)
def test_what_travel_does_outside_the_signed_bytes_leaves_no_trace(travel: Callable[[bytes], bytes]) -> None:
    assert asked(travel(ASKED)).text == ASKED
    assert install.verify_license_request(travel(ANSWER)).text == ANSWER


# --- the wrong document ---------------------------------------------------------------------------------------------

_KINDS = {
    LICENSE_FILE: (FILE, "a license file"),
    INSTALL_REQUEST: (ASKED, "an install request"),
    LICENSE_REQUEST: (ANSWER, "a license request"),
    WITHDRAWN: (VENDOR.withdrawn(), "a withdrawn list"),
    RENEWAL_REQUEST: (pki.renewal_request(KEY, FILE).removesuffix(FILE), "a renewal request"),
    UNCHANGED: (VENDOR.unchanged(), "an unchanged answer"),
    REFUSAL: (VENDOR.refusal(), "a refusal"),
}
_READERS: dict[str, Callable[[bytes], object]] = {
    LICENSE_FILE: verify,
    INSTALL_REQUEST: asked,
    LICENSE_REQUEST: install.verify_license_request,
    WITHDRAWN: lambda data: trust.verify_withdrawn(document.parse(data)[0], PROFILES["acme"]),
}


@pytest.mark.parametrize("wanted", _READERS)
@pytest.mark.parametrize("found", _KINDS)
def test_each_reader_takes_its_own_kind_and_says_what_another_is(found: str, wanted: str) -> None:
    data, words = _KINDS[found]
    if found == wanted:
        _READERS[wanted](data)
    else:
        error = refused(_READERS[wanted], data)
        assert error.error is WRONG_DOCUMENT
        assert error.message == f"It is {words}, not {_KINDS[wanted][1]}."


def test_there_is_one_document_and_nothing_behind_it() -> None:
    for data, no in ((ANSWER, no_answer), (ASKED, no_request)):
        for behind in (data, FILE, VENDOR.withdrawn(), ASKED, ANSWER):
            found = no(data + b"# here\n" + behind)
            assert (found.error, found.data["line"]) == (BAD_DOCUMENT, 3)
        assert no(data + LINES[1]).error is LINES_DO_NOT_FIT
        assert no(data + b"and more\n").error is DAMAGED_DOCUMENT
        assert no(b"").error is DAMAGED_DOCUMENT


def test_a_request_in_front_of_a_license_file_is_the_wrong_document_there() -> None:
    documents = document.parse(ASKED + FILE)
    with pytest.raises(Refused) as caught:
        document.run(trust.verify(documents[0], PROFILES, trusted_now=NOW, new=True))
    assert caught.value.error is WRONG_DOCUMENT


def test_a_comment_of_16_mib_is_too_large() -> None:
    comment = b"#" * (16 * 1024 * 1024) + b"\n"
    assert no_request(comment + ASKED).error is DOCUMENT_TOO_LARGE
    assert no_answer(ANSWER + comment).error is DOCUMENT_TOO_LARGE


# --- whom an install request is believed ----------------------------------------------------------------------------


def test_an_install_request_of_a_vendor_without_profile_is_not_trusted() -> None:
    found = no_request(VENDOR.install_request(vendor="other"))
    assert found.error is UNTRUSTED_SIGNER
    assert "no profile of the vendor other" in found.message
    assert no_request(ASKED, {}).error is UNTRUSTED_SIGNER


def test_an_install_request_of_another_root_is_not_trusted() -> None:
    foreign = pki.Vendor(root={"subject": "foreign root"})
    assert no_request(foreign.install_request()).error is UNTRUSTED_SIGNER


def test_one_vendor_cannot_issue_install_requests_of_another() -> None:
    other = pki.Vendor("other", names=("cam.*",))
    profiles = PROFILES | profile_of(other)
    assert asked(other.install_request(), profiles).profile == "other"
    assert no_request(other.install_request(vendor="acme"), profiles).error is UNTRUSTED_SIGNER


@pytest.mark.parametrize(
    "leaf",
    [{"purposes": [ExtendedKeyUsageOID.SERVER_AUTH]}, {"ca": True}, {"key_usage": pki.usage("key_encipherment")}],
    ids=["of a web site", "of a CA", "not for signatures"],
)
def test_a_certificate_that_signs_no_licenses_signs_no_install_request(leaf: dict[str, Any]) -> None:
    vendor = pki.Vendor(root=VENDOR.root, leaf=leaf)
    assert no_request(vendor.install_request()).error is BAD_CERTIFICATE


def test_an_install_request_issued_before_its_signers_certificate_is_refused() -> None:
    assert no_request(VENDOR.install_request(issued="2025-12-31T23:59:59Z")).error is BAD_CERTIFICATE


def test_a_signer_that_ended_over_90_days_ago_signs_no_new_install_request() -> None:
    ended = VENDOR.leaf.certificate.not_valid_after_utc.timestamp()
    assert asked(ASKED, trusted_now=ended + 90 * DAY).id == "install-1"
    assert no_request(ASKED, trusted_now=ended + 90 * DAY + 1).error is SIGNER_RETIRED
    assert asked(ASKED, trusted_now=None).id == "install-1"


@pytest.mark.parametrize("void", [False, True])
def test_a_withdrawn_signer_signs_no_install_request(void: bool) -> None:
    (only,) = document.parse(VENDOR.withdrawn((VENDOR.leaf.certificate, void)))
    listed = trust.verify_withdrawn(only, PROFILES["acme"])
    assert no_request(ASKED, profile_of(VENDOR, withdrawn=listed)).error is SIGNER_RETIRED


# --- any bytes --------------------------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.integers(0, len(ANSWER)), st.integers(0, 40))
def test_any_bytes_put_anywhere_are_read_or_refused_by_name(data: bytes, at: int, cut: int) -> None:
    read_or_refused(install.verify_license_request, ANSWER[:at] + data + ANSWER[at + cut :])
    read_or_refused(asked, ASKED[:at] + data + ASKED[at + cut :])


_values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1001) | st.text(max_size=8) | st.just("123456"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["disk", "nic", "kind"]), inner),
    max_leaves=5,
)


@given(st.sampled_from(list(install._LICENSE_REQUEST)), _values)
def test_any_signed_value_of_a_member_is_read_or_a_bad_document(name: str, value: Any) -> None:
    data = pki.license_request(KEY, **{name: value})
    try:
        assert install.verify_license_request(data).text == data
    except Refused as error:
        assert error.error is BAD_DOCUMENT or (name == "device" and error.error is BAD_SIGNATURE)  # noqa: PT017

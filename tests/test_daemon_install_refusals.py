"""Installation by file in the real process: each document that is refused, by its own name, leaves no trace."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licd.license.install import LicenseRequest, public_key
from licd.rpc.client import CallError
from tests.support import pki
from tests.support.cli import runner
from tests.support.clients import Program, refusal
from tests.support.site import NEEDS, UMBRA, Asked, Site, edited

pytestmark = NEEDS

OTHER_KEY = public_key(Ed25519PrivateKey.from_private_bytes(bytes(32)))


@dataclasses.dataclass
class Shop:
    """Licenses in force as seq 2, a newer install request, and a license request that is open for it."""

    site: Site
    asked: Asked
    request: LicenseRequest
    past: bytes  # the license file of seq 1
    answered: LicenseRequest  # the license request that seq 2 answers

    def other_hardware(self, **device: Any) -> bytes:
        tags = {factor: ["000000"] for factor in self.request.fingerprint}
        return self.asked.file(self.request, 3, device={"fingerprint": tags, **device})


@pytest.fixture(scope="module")
def shop() -> Iterator[Shop]:
    with tempfile.TemporaryDirectory(prefix="licd-") as name:
        folder = Path(name)
        folder.chmod(0o755)
        with Site(folder, settings={"socket_mode": "0666"}) as site:
            asked = site.start().ask(Asked(issued=time.time() - 60))
            answered = site.request()
            past = asked.file(answered, 1)
            site.call("license.import", document=past)
            site.call("license.import", document=asked.file(answered, 2))
            asked = site.ask(Asked())
            yield Shop(site, asked, site.request(), past, answered)


INSTALL_REQUESTS: dict[str, tuple[str, Callable[[Shop], bytes]]] = {
    "of a signer under another root": (
        "UNTRUSTED_SIGNER",
        lambda shop: Asked(pki.Vendor(root={"subject": "another root"})).document,
    ),
    "of a vendor without a profile": ("UNTRUSTED_SIGNER", lambda shop: Asked(UMBRA).document),
    "of one vendor, signed by another": (
        "UNTRUSTED_SIGNER",
        lambda shop: Asked(UMBRA, vendor="acme").document,
    ),
    "older than the current one": ("OLDER_INSTALL_REQUEST", lambda shop: Asked(issued=time.time() - 3600).document),
    "from the future of a confirmed clock": (
        "ISSUED_IN_FUTURE",
        lambda shop: Asked(issued=time.time() + 3 * pki.DAY).document,
    ),
    "with a weight of zero": ("BAD_DOCUMENT", lambda shop: Asked(weights={"disk": 0}).document),
    "with no weights": ("BAD_DOCUMENT", lambda shop: Asked(weights={}).document),
    "with a share of nothing": ("BAD_DOCUMENT", lambda shop: Asked(share=0).document),
    "with a share above the whole": ("BAD_DOCUMENT", lambda shop: Asked(share=101).document),
    "with a share that is a fraction": ("BAD_DOCUMENT", lambda shop: Asked(share=1.5).document),
    "edited": ("BAD_SIGNATURE", lambda shop: edited(Asked().document, b'"share":50', b'"share":10')),
    "cut off": ("DAMAGED_DOCUMENT", lambda shop: Asked().document[:-20]),
    "twice": ("BAD_DOCUMENT", lambda shop: Asked().document + Asked().document),
    "with a comment of over 1 MiB": ("DOCUMENT_TOO_LARGE", lambda shop: b"#" * 2**20 + b"\n" + Asked().document),
    "that is a license file": ("WRONG_DOCUMENT", lambda shop: shop.asked.file(shop.request, 3)),
    "that is a license request": ("WRONG_DOCUMENT", lambda shop: shop.request.text),
    "that is empty": ("DAMAGED_DOCUMENT", lambda shop: b""),
}

LICENSE_FILES: dict[str, tuple[str, Callable[[Shop], bytes]]] = {
    "bound to another key": ("WRONG_DEVICE", lambda shop: shop.asked.file(shop.request, 3, device={"key": OTHER_KEY})),
    "bound to this key but other hardware": ("WRONG_DEVICE", lambda shop: shop.other_hardware()),
    "bound to another key and other hardware": ("WRONG_DEVICE", lambda shop: shop.other_hardware(key=OTHER_KEY)),
    "bound under another salt": (
        "WRONG_DEVICE",
        lambda shop: shop.asked.file(shop.request, 3, device={"salt": Asked().members["salt"]}),
    ),
    "bound to nothing that was found": (
        "WRONG_DEVICE",
        lambda shop: shop.asked.file(shop.request, 3, device={"fingerprint": {}}),
    ),
    "for another request of this device": (
        "ANOTHER_REQUEST",
        lambda shop: shop.asked.file(shop.request, 3, request="ffffffffffffffffffffffff"),
    ),
    "replayed after a newer one": ("OLDER_FILE", lambda shop: shop.past),
    "with the seq of another": ("SEQ_CONFLICT", lambda shop: shop.asked.file(shop.request, 2)),
    "of a vendor without a profile": (
        "UNTRUSTED_SIGNER",
        lambda shop: Asked(UMBRA).file(shop.request, 3),
    ),
    "of a signer under another root": (
        "UNTRUSTED_SIGNER",
        lambda shop: Asked(pki.Vendor(root={"subject": "another root"})).file(shop.request, 3),
    ),
    "that is an install request": ("WRONG_DOCUMENT", lambda shop: Asked().document),
    "that is a license request": ("WRONG_DOCUMENT", lambda shop: shop.request.text),
}


def is_refused(shop: Shop, method: str, document: bytes, error: str, **params: Any) -> CallError:
    """The refusal; the state folder, the journal and the licenses in force are as before."""
    site = shop.site
    site.call("server.hello")
    before, used = site.files(), site.call("server.status")["journal"]["bytes"]
    log = site.log
    refused = refusal(site, method, document=document, **params)
    assert refused.name == error
    assert site.files() == before
    assert site.call("server.status")["journal"]["bytes"] == used
    assert site.log == log
    assert site.valid()
    assert site.row()["seq"] == 2
    assert site.request() == shop.request
    return refused


@pytest.mark.parametrize("what", INSTALL_REQUESTS)
def test_an_install_request_is_refused_and_leaves_no_trace(shop: Shop, what: str) -> None:
    error, make = INSTALL_REQUESTS[what]
    is_refused(shop, "install.import", make(shop), error)


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("what", LICENSE_FILES)
def test_a_license_file_is_refused_and_leaves_no_trace(shop: Shop, what: str, dry_run: bool) -> None:
    error, make = LICENSE_FILES[what]
    is_refused(shop, "license.import", make(shop), error, dry_run=dry_run)


def test_an_install_request_behind_16_mib_of_comment_is_refused_before_it_is_read_whole(
    shop: Shop, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    document = b"#" * 2**24 + b"\n" + Asked().document
    with pytest.raises(CallError) as caught:
        shop.site.call("install.import", document=document)
    assert caught.value.name == "MESSAGE_TOO_LARGE"
    assert shop.site.valid()
    file = tmp_path / "request"
    file.write_bytes(document)
    done = runner(capsys, "--socket", shop.site.socket)("install-request", "import", file)
    assert "DOCUMENT_TOO_LARGE" in done.err
    assert done.status != 0
    assert shop.site.request() == shop.request


def test_the_refusal_of_other_hardware_tells_it_factor_by_factor(shop: Shop) -> None:
    tags = {**shop.request.fingerprint, "disk": ["000000"], "nic": ["000000"], "board_serial": ["000000"]}
    document = shop.asked.file(shop.request, 3, device={"fingerprint": tags, "share": 90})
    refused = is_refused(shop, "license.import", document, "WRONG_DEVICE")
    lost = [row["factor"] for row in refused.data["factors"] if row["state"] == "lost"]
    assert lost == ["board_serial", "disk", "nic"]
    assert "60 of 140 are kept, 126 are needed" in refused.message


def test_of_a_delivery_for_other_devices_the_nearest_is_told(shop: Shop) -> None:
    near = {**shop.request.fingerprint, "disk": ["000000"]}
    files = [
        shop.other_hardware(key=OTHER_KEY),
        shop.asked.file(shop.request, 4, device={"key": OTHER_KEY, "fingerprint": near}),
        shop.other_hardware(key=OTHER_KEY),
    ]
    refused = is_refused(shop, "license.import", b"".join(files), "WRONG_DEVICE")
    assert [row["factor"] for row in refused.data["factors"] if row["state"] == "lost"] == ["disk"]
    assert "none of the 3 files is" in refused.message
    assert "another device key, though to this hardware" in refused.message


def test_who_is_no_administrator_may_neither_install_nor_look_at_the_hardware(shop: Shop) -> None:
    with Program(shop.site.socket, uid=12345) as client:
        for method, params in {
            "install.import": {"document": Asked().document},
            "install.request": {},
            "device.fingerprint": {},
            "license.import": {"document": shop.asked.file(shop.request, 3)},
        }.items():
            assert refusal(client, method, **params).name == "NOT_PERMITTED"
        assert client.call("license.check", license="kso.scales")["valid"]


@pytest.mark.parametrize("vendor", ["umbra", "nobody"])
def test_a_license_request_for_a_vendor_that_asked_nothing_is_refused(shop: Shop, vendor: str) -> None:
    assert refusal(shop.site, "install.request", vendor=vendor).name == "NO_INSTALL_REQUEST"

"""licd-vendor show on the documents of a renewal: in words, for programs, verified and not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licd.license import document, install
from licd_vendor.main import main
from tests.support import pki


class Shelf:
    """A vendor's documents in files, and his profile."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.vendor = pki.Vendor()
        self.profile = self.vendor.write_profile(folder)
        self.file = self.vendor.license_file(seq=4)

    def show(self, data: bytes, *options: str | Path) -> tuple[int, str]:
        (self.folder / "f.licd").write_bytes(data)
        self._capsys.readouterr()
        status = main(["show", str(self.folder / "f.licd"), *map(str, options)])
        said = self._capsys.readouterr()
        return status, said.out or said.err

    def verified(self, data: bytes) -> str:
        status, text = self.show(data, "--profile", self.profile)
        assert status == 0, text
        return text


@pytest.fixture
def shelf(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Shelf:
    return Shelf(tmp_path, capsys)


def test_a_renewal_request_is_shown_with_its_usage_and_the_file_behind_it(shelf: Shelf) -> None:
    key = Ed25519PrivateKey.generate()
    usage = {"from": "2026-05-30", "peaks": {"kso.scales": [0, 3, 2], "kso.pay": [1, 1, 1]}}
    text = shelf.verified(pki.renewal_request(key, shelf.file, usage=usage))
    for part in (
        "renewal-request for the vendor acme, seq 4, issued",
        "It asks for the renewal of the license file file-4, which follows.",
        "signed by the key that it names",
        install.public_key(key),
        "usage: the most seats at once, each day from 2026-05-30\n      kso.scales: 0 3 2\n      kso.pay: 1 1 1\n",
        "license-file of the vendor acme, seq 4",
    ):
        assert part in text
    assert text.count("verified: every line") == 2
    assert "usage: none" in shelf.verified(pki.renewal_request(key, shelf.file, usage={"from": None, "peaks": {}}))


def test_the_answers_of_a_vendor_are_shown_in_words(shelf: Shelf) -> None:
    text = shelf.verified(shelf.vendor.unchanged(file="file-4", seq=4) + shelf.vendor.withdrawn())
    assert "unchanged of the vendor acme, seq 4, issued" in text
    assert "The license file file-4 stays in force as it is" in text
    assert "withdrawn of the vendor acme, seq 1" in text
    text = shelf.verified(shelf.vendor.refusal(file="file-4", reason="Счёт 17 не оплачен", stops="2026-06-09"))
    assert "does not renew the license file file-4: its licenses count until 2026-06-09, and no longer" in text
    assert "reason: Счёт 17 не оплачен" in text


def test_the_documents_of_a_renewal_are_shown_to_programs(shelf: Shelf) -> None:
    request = pki.renewal_request(Ed25519PrivateKey.generate(), shelf.file)
    delivery = {request: ["renewal-request", "license-file"], shelf.vendor.refusal(): ["refusal"]}
    for data, kinds in delivery.items():
        status, text = shelf.show(data, "--profile", shelf.profile, "--json")
        documents = json.loads(text)["documents"]
        assert (status, [each["kind"] for each in documents]) == (0, kinds)
        assert all(each["verified"] for each in documents)


@pytest.mark.parametrize("kind", ["renewal-request", "unchanged", "refusal"])
def test_one_changed_byte_is_shown_only_unverified(shelf: Shelf, kind: str) -> None:
    made = {
        "renewal-request": lambda: pki.renewal_request(Ed25519PrivateKey.generate(), shelf.file),
        "unchanged": shelf.vendor.unchanged,
        "refusal": shelf.vendor.refusal,
    }[kind]()
    broken = made.replace(b'"seq":', b'"seq":1', 1)
    assert shelf.show(broken, "--profile", shelf.profile)[0] == 1
    status, text = shelf.show(broken)
    assert (status, "NOT VERIFIED" in text) == (0, True)


def test_a_renewal_request_without_its_file_or_with_another_is_not_verified(shelf: Shelf) -> None:
    request = pki.renewal_request(Ed25519PrivateKey.generate(), shelf.file)
    alone = request.removesuffix(shelf.file)
    for data in (alone, alone + shelf.vendor.license_file(seq=5), alone + shelf.vendor.unchanged()):
        status, text = shelf.show(data, "--profile", shelf.profile)
        assert (status, text[:7]) == (1, "error: ")


def test_the_longest_renewal_request_is_shown_and_no_other_document_of_that_length(shelf: Shelf) -> None:
    file = shelf.vendor.license_file(lines=[{"id": f"L-{n}", "x": {"a": "b" * 12000}} for n in range(83)])
    usage = {"from": "2026-01-01", "peaks": {f"kso.n{n}": [10**6] * 100 for n in range(70)}}
    request = pki.renewal_request(Ed25519PrivateKey.generate(), file, usage=usage)
    assert len(file) <= document.MAX_DOCUMENT_BYTES < len(request)
    shelf.verified(request)
    status, text = shelf.show(file + b"#" * (document.MAX_DOCUMENT_BYTES + 1 - len(file)))
    assert (status, "DOCUMENT_TOO_LARGE" in text) == (1, True)


@pytest.mark.parametrize(
    "members",
    [
        {"usage": "\x1b[2J"},
        {"usage": {"from": "\x1b[2J", "peaks": {"\x1b[2J": ["\x1b[2J"]}}},
        {"usage": {"peaks": {"kso.a": 7}}},
        {"usage": None, "file": {"a": [1]}},
        {"file": "{stops} {0} {file.x}"},
    ],
)
def test_an_unverified_request_may_say_anything_and_is_shown(shelf: Shelf, members: dict[str, Any]) -> None:
    status, text = shelf.show(pki.renewal_request(Ed25519PrivateKey.generate(), shelf.file, **members))
    assert status == 0
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize("keys", [None, "\x1b[2J", [], [7], [{"key#S256": "\x1b[2J", "void": 1}], [{"void": True}], {}])
def test_an_unverified_list_may_hold_anything_and_is_shown(shelf: Shelf, keys: Any) -> None:
    status, text = shelf.show(shelf.vendor.withdrawn(keys=keys))
    assert status == 0
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize("kind", ["unchanged", "refusal"])
def test_an_unverified_answer_may_lack_what_it_is_about(shelf: Shelf, kind: str) -> None:
    answer = getattr(shelf.vendor, kind)(file=pki.DROP, **({"stops": pki.DROP} if kind == "refusal" else {}))
    status, text = shelf.show(answer)
    assert (status, "license file ?" in text) == (0, True)


def test_an_answer_whose_signer_was_withdrawn_is_shown_with_a_note_and_a_void_one_is_not(shelf: Shelf) -> None:
    answer = shelf.vendor.unchanged()
    for void in (False, True):
        data = shelf.vendor.withdrawn((shelf.vendor.leaf.certificate, void))
        (shelf.profile / "withdrawn.licd").write_bytes(data)
        status, text = shelf.show(answer, "--profile", shelf.profile)
        assert (status, "SIGNER_RETIRED" in text) == (int(void), void)
        assert ("no device imports it anew" in text) != void

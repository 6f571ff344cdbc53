"""What licd-vendor issue refuses: each by its own name, without a file, and with the store as it was."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from licd.license import document, install
from licd.license.install import LicenseRequest
from tests.support.books import Books, Machine, complaint

Refuse = Callable[..., str]


@pytest.fixture
def refuse(books: Books, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Refuse:
    """The complaint about a request that is refused while nothing changes."""

    def run(request: LicenseRequest | bytes, *options: str | int) -> str:
        before = books.dump()
        capsys.readouterr()
        assert books.issue_to(tmp_path / "out.licd", request, *options) == 1
        assert not (tmp_path / "out.licd").exists()
        assert books.dump() == before
        return complaint(capsys).splitlines()[0]

    return run


def test_a_request_that_was_edited_is_refused(books: Books, refuse: Refuse) -> None:
    text = Machine(1).request(books.ask(books.order())).text
    assert "(BAD_SIGNATURE)" in refuse(text.replace(b'"rehost":false', b'"rehost":true'))


def test_a_request_signed_again_by_another_key_is_refused(books: Books, refuse: Refuse) -> None:
    asked = books.ask(books.order())
    payload, _ = Machine(1).request(asked).text.split(b"\t")
    other = Ed25519PrivateKey.generate()
    header = document.device_header(document.LICENSE_REQUEST, install.public_key(other))
    assert "(BAD_SIGNATURE)" in refuse(document.build_line(document.read_json(payload), header, other.sign))


def test_a_request_with_the_signature_of_another_device_is_refused(books: Books, refuse: Refuse) -> None:
    asked = books.ask(books.order())
    (payload, _), (_, signature) = (Machine(number).request(asked).text.split(b"\t") for number in (1, 2))
    assert "(BAD_SIGNATURE)" in refuse(payload + b"\t" + signature)


@pytest.mark.parametrize("factor", ["system_uuid", "board_serial", "product_serial", "chassis_serial", "cpu"])
def test_a_request_that_shows_several_of_what_one_device_has_once(books: Books, refuse: Refuse, factor: str) -> None:
    crafted = Machine(1, **{factor: ["of one device", "of another"]})
    assert f"more than one {factor}, as no device has" in refuse(crafted.request(books.ask(books.order())))


@pytest.mark.parametrize("factor", ["disk", "nic"])
def test_a_request_that_shows_more_than_eight_of_a_factor_needs_a_person_who_knows_why(
    books: Books, refuse: Refuse, factor: str
) -> None:
    asked = books.ask(books.order("--devices", 2))
    eight, nine = ([f"{factor}-{n}" for n in range(count)] for count in (8, 9))
    assert books.issue(Machine(1, **{factor: eight}).request(asked)).seq == 1
    request = Machine(2, **{factor: nine}).request(asked)
    assert f"9 different values of {factor}, more than 8" in refuse(request)
    assert "9 different values" in refuse(request, "--weak", "--rehost")
    assert books.issue(request, "--many").seq == 1


def test_many_of_what_was_not_asked_for_are_nobody_s_concern(books: Books) -> None:
    order = books.order()
    everything = Machine(1, disk=[f"disk-{n}" for n in range(9)]).request(books.ask(order)).fingerprint
    asked = books.ask(order, "--weights", "board_serial=1,nic=2")
    assert books.issue(Machine(1).request(asked, fingerprint=everything)).seq == 1


def test_another_document_for_a_request_is_refused(books: Books, refuse: Refuse) -> None:
    asked = books.ask(books.order())
    file = books.issue(Machine(1).request(asked))
    assert "an install request, not a license request. (WRONG_DOCUMENT)" in refuse(asked.text)
    assert "a license file, not a license request. (WRONG_DOCUMENT)" in refuse(file.text)


def test_a_request_for_another_vendor_is_refused(books: Books, refuse: Refuse) -> None:
    asked = books.ask(books.order())
    assert "(ANOTHER_VENDOR)" in refuse(Machine(1).request(asked, vendor="globex"))


def test_a_request_that_answers_the_install_request_of_another_store_is_refused(
    books: Books, refuse: Refuse, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Books(tmp_path / "other")
    books.order()
    assert "(UNKNOWN_INSTALL_REQUEST)" in refuse(Machine(1).request(other.ask(other.order())))


def test_a_request_that_answers_a_superseded_install_request_is_refused(books: Books, refuse: Refuse) -> None:
    order = books.order()
    old, current = books.ask(order), books.ask(order)
    complaint = refuse(Machine(1).request(old))
    assert "(SUPERSEDED_INSTALL_REQUEST)" in complaint
    assert current.id in complaint
    assert books.issue(Machine(1).request(current)).seq == 1


def test_the_install_request_of_another_order_is_not_superseded(books: Books) -> None:
    asked = books.ask(books.order())
    books.ask(books.order())
    assert books.issue(Machine(1).request(asked)).seq == 1


def test_of_several_reasons_the_first_in_the_manual_s_order_is_named(books: Books, refuse: Refuse) -> None:
    order = books.order("--rehosts", 0)
    old, asked = books.ask(order), books.ask(order)
    answered = str(uuid4())
    books.issue(Machine(1).request(asked, id=answered))
    machine = Machine(2, **WEAK)
    faults: dict[str, Any] = {"vendor": "globex", "install_request": "unknown", "id": answered}
    assert "(BAD_SIGNATURE)" in refuse(machine.request(asked, **faults).text.replace(b"globex", b"initech"))
    assert "(ANOTHER_VENDOR)" in refuse(machine.request(asked, **faults))
    assert "(UNKNOWN_INSTALL_REQUEST)" in refuse(machine.request(asked, **faults | {"vendor": "acme"}))
    assert "was answered before" in refuse(machine.request(asked, id=answered))
    assert "(SUPERSEDED_INSTALL_REQUEST)" in refuse(machine.request(old, id=answered))
    assert "(WEAK_FINGERPRINT)" in refuse(machine.request(asked))
    assert "(ANOTHER_DEVICE)" in refuse(machine.request(asked), "--weak")
    assert "(REHOST_LIMIT)" in refuse(machine.request(asked), "--weak", "--rehost")


WEAK: dict[str, list[str]] = {"system_uuid": [], "board_serial": [], "product_serial": [], "nic": []}


def test_a_request_that_was_answered_gets_the_same_file_also_when_it_would_be_refused_now(books: Books) -> None:
    order = books.order()
    request = Machine(1, **WEAK).request(books.ask(order))
    issued = books.issue(request, "--weak")
    assert books.issue(request).text == issued.text
    books.ask(order)
    assert books.issue(request).text == issued.text


def test_a_device_that_shows_one_kind_of_strong_hardware_only_is_refused(books: Books, refuse: Refuse) -> None:
    request = Machine(1, **WEAK).request(books.ask(books.order()))
    complaint = refuse(request)
    assert "(disk)" in complaint
    assert "(WEAK_FINGERPRINT)" in complaint
    assert books.issue(request, "--weak").seq == 1


def test_strong_factors_that_were_not_asked_for_make_no_strong_fingerprint(books: Books, refuse: Refuse) -> None:
    order = books.order()
    everything = Machine(1).request(books.ask(order)).fingerprint
    asked = books.ask(order, "--weights", "disk=30,cpu=5")
    assert "(WEAK_FINGERPRINT)" in refuse(Machine(1).request(asked, fingerprint=everything))


def test_a_device_that_shows_nothing_at_all_is_refused_even_if_weak_is_allowed(books: Books, refuse: Refuse) -> None:
    request = Machine(1).request(books.ask(books.order()), fingerprint={})
    assert "(WEAK_FINGERPRINT)" in refuse(request)
    assert "shows nothing" in refuse(request, "--weak")


def test_another_device_is_refused_when_the_order_has_no_place_left(books: Books, refuse: Refuse) -> None:
    asked = books.ask(books.order())
    books.issue(Machine(1).request(asked))
    assert "(ANOTHER_DEVICE)" in refuse(Machine(2).request(asked))


def test_a_known_device_that_is_no_device_of_this_full_order_is_refused(books: Books, refuse: Refuse) -> None:
    machine, asked = Machine(1), books.ask(books.order())
    books.issue(machine.request(books.ask(books.order())))
    books.issue(Machine(2).request(asked))
    assert "(ANOTHER_DEVICE)" in refuse(machine.request(asked))


def test_a_known_key_on_other_hardware_is_refused(books: Books, refuse: Refuse) -> None:
    asked = books.ask(books.order("--devices", 9))
    machine, copy = Machine(1), Machine(2)
    copy.key = machine.key
    books.issue(machine.request(asked))
    complaint = refuse(copy.request(asked))
    assert "(ANOTHER_DEVICE)" in complaint
    assert "weight 5 of 135 is kept, 68 is needed" in complaint
    assert "disk (lost)" in complaint
    assert "disk (unreadable)" in refuse(copy.request(asked, unreadable=["disk"]))


def test_the_key_of_one_device_on_the_hardware_of_another_is_refused(books: Books, refuse: Refuse) -> None:
    asked = books.ask(books.order("--devices", 2))
    one, two = Machine(1), Machine(2)
    for each in (one, two):
        books.issue(each.request(asked))
    two.key = one.key
    assert "(ANOTHER_DEVICE)" in refuse(two.request(asked))
    assert "comes from device 1, not from device 2" in refuse(two.request(asked), "--rehost", 2)


def test_nobody_else_s_answer_shuts_a_request_out_by_its_id(books: Books) -> None:
    theirs, ours = books.ask(books.order(customer="c-2")), books.ask(books.order())
    pending = Machine(1).request(ours)
    other = books.issue(Machine(2).request(theirs, id=pending.id))
    file = books.issue(pending)
    assert (file.request, file.device and file.device.key) == (pending.id, pending.device)
    assert books.issue(pending).text == file.text != other.text


def test_an_answered_request_in_the_name_of_another_key_or_with_other_content_is_refused(
    books: Books, refuse: Refuse
) -> None:
    asked = books.ask(books.order("--devices", 9))
    machine, id = Machine(1), str(uuid4())
    books.issue(machine.request(asked, id=id))
    assert "(ANOTHER_DEVICE)" in refuse(Machine(2).request(asked, id=id), "--rehost")
    assert "(ANOTHER_DEVICE)" in refuse(machine.request(asked, id=id, rehost=True), "--rehost")


@pytest.mark.parametrize("how", ["reimaged", "changed", "moved"])
def test_a_rehost_beyond_the_limit_is_refused(books: Books, refuse: Refuse, how: str) -> None:
    order = books.order("--rehosts", 0)
    asked = books.ask(order)
    machine = Machine(1)
    books.issue(machine.request(asked))
    other = machine.reimaged() if how == "reimaged" else Machine(2)
    if how == "changed":
        other.key = machine.key
    options = [] if how == "reimaged" else ["--rehost"]
    assert f"The order {order} was moved to another device 0 times" in refuse(other.request(asked), *options)
    assert books.run("order", "set", order, "--rehosts", 1) == 0
    assert books.issue(other.request(asked), *options).seq == 2
    assert "(REHOST_LIMIT)" in refuse(machine.request(asked), "--rehost")


def test_a_rehost_of_a_device_whose_other_order_may_not_be_moved_any_more_is_refused(
    books: Books, refuse: Refuse
) -> None:
    fixed, free = books.order("--rehosts", 0), books.order()
    machine = Machine(1)
    books.issue(machine.request(books.ask(fixed)))
    asked = books.ask(free)
    books.issue(machine.request(asked))
    assert f"The order {fixed} was moved" in refuse(Machine(2).request(asked), "--rehost")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--rehost"], "has several devices: 1, 2"),
        (["--rehost", 3], "has no device 3"),
        (["--rehost", 4], "has no device 4"),
    ],
)
def test_a_rehost_that_does_not_say_which_device_or_names_a_wrong_one_is_refused(
    books: Books, refuse: Refuse, options: Sequence[str | int], complaint: str
) -> None:
    asked = books.ask(books.order("--devices", 2))
    for number in (1, 2):
        books.issue(Machine(number).request(asked))
    books.issue(Machine(3).request(books.ask(books.order())))
    assert complaint in refuse(Machine(4).request(asked), *options)


def test_two_customers_never_share_a_device_or_its_place(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    machine = Machine(1)
    first, second = books.order(), books.order(customer="c-2")
    books.issue(machine.request(books.ask(first)))
    books.issue(machine.request(books.ask(second)))
    devices = [[each["device"] for each in books.json(capsys, "order", "show", n)["devices"]] for n in (first, second)]
    assert devices == [[1], [2]]


def test_orders_that_together_make_too_long_a_file_are_refused_until_one_is_ended(
    books: Books, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    described = tmp_path / "order.json"
    described.write_text(json.dumps({"licenses": [{"name": "kso.a"}] * 1000}))
    machine = Machine(1)
    books.issue(machine.request(books.ask(books.order(str(described)))))
    request = machine.request(books.ask(books.order(str(described))))
    before = books.dump()
    capsys.readouterr()
    assert books.issue_to(tmp_path / "out.licd", request) == 1
    error, hint = capsys.readouterr().err.splitlines()
    assert "A device would refuse this file" in error
    assert "In the file would be orders 1, 2: end what is over with licd-vendor order end." in hint
    assert books.dump() == before
    assert books.run("order", "end", 1) == 0
    assert len(books.issue(request).lines) == 1000


def test_a_signing_key_that_is_not_there_is_refused(books: Books, refuse: Refuse) -> None:
    request = Machine(1).request(books.ask(books.order()))
    (books.dir / "signer.key").unlink()
    assert "signer.key cannot be read" in refuse(request)

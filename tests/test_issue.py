"""licd-vendor issue: which license file answers a license request, and what it says."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from licd.license import install
from licd.license.binding import Binding
from licd.license.lines import Renewal
from tests.support.books import Books, Machine


def test_the_first_file_of_a_device_answers_its_request_and_is_bound_to_it(books: Books) -> None:
    asked = books.ask(books.order("--license", "kso.scan,seats=3", "--license", "kso.pay,uncounted"))
    request = Machine(1).request(asked)
    file = books.issue(request)
    assert (file.seq, file.request, file.vendor) == (1, request.id, "acme")
    assert file.device == Binding(request.device, asked.salt, request.fingerprint, asked.weights, asked.share)
    assert [(line.name, line.seats) for line in file.lines] == [("kso.scan", 3), ("kso.pay", 0)]
    assert file.device_grace_days == 7


def test_the_same_device_gets_the_next_number_and_its_licenses_keep_their_ids(books: Books) -> None:
    asked = books.ask(books.order())
    machine = Machine(1)
    first, second = (books.issue(machine.request(asked)) for _ in range(2))
    assert (first.seq, second.seq) == (1, 2)
    assert first.file != second.file
    assert [line.id for line in first.lines] == [line.id for line in second.lines]


def test_a_repaired_device_that_still_matches_is_bound_to_what_it_is_now(books: Books) -> None:
    asked = books.ask(books.order())
    machine = Machine(1)
    books.issue(machine.request(asked))
    repaired = machine.changed(disk=["a new disk"])
    request = repaired.request(asked)
    assert books.issue(request).device == Binding(
        request.device, asked.salt, request.fingerprint, asked.weights, asked.share
    )
    # Against the first binding disk and NIC together would be too much; the second knows the new disk.
    again = books.issue(repaired.changed(nic=["a new card"], board_serial=["a new board"]).request(asked))
    assert again.seq == 3


def test_the_same_request_gets_the_same_file_and_says_so(
    books: Books, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    request = Machine(1).request(books.ask(books.order()))
    first = books.issue(request)
    before = books.dump()
    capsys.readouterr()
    assert books.issue(request).text == first.text
    assert "issued before, the same again" in capsys.readouterr().out
    assert books.dump() == before


def test_it_says_of_how_many_disks_and_network_cards_the_file_is(
    books: Books, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = Machine(1, disk=["a", "b", "c"])
    request = machine.request(books.ask(books.order()))
    for _ in range(2):  # also when it is issued again
        books.issue(request)
        assert "debian 12 x86_64, which shows 3 disks, 2 nics\n" in capsys.readouterr().out
    books.issue(machine.request(books.ask(1), unreadable=["disk"]))
    assert "shows 0 disks, 2 nics" in capsys.readouterr().out


def test_a_request_that_mail_gave_other_line_ends_is_still_the_same(books: Books) -> None:
    request = Machine(1).request(books.ask(books.order()))
    first = books.issue(request)
    assert books.issue(b"# from the shop\r\n" + request.text.rstrip(b"\n") + b" \r\n").text == first.text


def test_two_orders_of_a_device_make_one_file(books: Books) -> None:
    machine = Machine(1)
    one = books.issue(machine.request(books.ask(books.order("--license", "kso.scan,seats=3"))))
    both = books.issue(machine.request(books.ask(books.order("--license", "kso.scan,seats=2,id=L-2"))))
    assert (one.seq, both.seq) == (1, 2)
    assert [(line.name, line.seats) for line in both.lines] == [("kso.scan", 3), ("kso.scan", 2)]
    assert [line.id for line in both.lines] == [one.lines[0].id, "L-2"]


def test_a_later_order_may_replace_a_license_of_an_earlier_one(books: Books) -> None:
    machine = Machine(1)
    books.issue(machine.request(books.ask(books.order("--license", "kso.scan,seats=3,id=L-1"))))
    file = books.issue(machine.request(books.ask(books.order("--license", "kso.scan,seats=5,replaces=L-1"))))
    assert [line.replaces for line in file.lines] == [None, "L-1"]


def test_merged_orders_keep_their_own_renewal_and_the_longest_grace_of_a_changed_device(
    books: Books, tmp_path: Path
) -> None:
    renewal = {"need": "required", "every_days": 35, "grace_days": 14}
    licenses = [{"name": "kso.a"}, {"name": "kso.b", "renewal": {"need": "none"}}]
    described = {"renewal": renewal, "device_grace_days": 30, "x": {"contract": 1, "sold": "a"}, "licenses": licenses}
    (tmp_path / "order.json").write_text(json.dumps(described))
    machine = Machine(1)
    alone = books.issue(machine.request(books.ask(books.order(str(tmp_path / "order.json")))))
    assert (alone.renewal, alone.device_grace_days) == (Renewal("required", 35, 14), 30)
    described = {"device_grace_days": 3, "x": {"sold": "b"}, "licenses": [{"name": "kso.c"}]}
    (tmp_path / "order.json").write_text(json.dumps(described))
    both = books.issue(machine.request(books.ask(books.order(str(tmp_path / "order.json")))))
    renewals = {line.name: line.renewal.need for line in both.lines}
    assert renewals == {"kso.a": "required", "kso.b": "none", "kso.c": "none"}
    assert both.device_grace_days == 30
    assert both.x == {"contract": 1, "sold": "b"}


def test_each_device_of_an_order_has_files_and_numbers_of_its_own(books: Books) -> None:
    asked = books.ask(books.order("--devices", 2))
    one, two = Machine(1), Machine(2)
    numbers = [books.issue(machine.request(asked)).seq for machine in (one, two, one, one, two)]
    assert numbers == [1, 1, 2, 3, 2]


def test_devices_of_one_model_are_told_apart_though_they_share_all_that_is_weak(books: Books) -> None:
    asked = books.ask(books.order("--devices", 2))
    names = ("system_uuid", "board_serial", "product_serial", "disk", "nic")
    nothing: dict[str, list[str]] = {name: [] for name in names}
    weak = [Machine(number, **nothing, machine_id=["from the image"]) for number in (1, 2)]
    assert [books.issue(machine.request(asked), "--weak").seq for machine in weak] == [1, 1]


def test_a_second_order_joins_the_device_that_it_is_used_on(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    machine, order = Machine(1), books.order()
    books.issue(machine.request(books.ask(order)))
    second = books.order()
    books.issue(machine.request(books.ask(second)))
    (device,) = books.json(capsys, "order", "show", second)["devices"]
    assert (device["orders"], device["seq"]) == ([order, second], 2)


# --- another hardware, another key ---------------------------------------------------------------------------------


def test_the_same_hardware_with_a_new_system_is_the_same_device_and_counts_as_a_rehost(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    order = books.order("--rehosts", 1)
    asked = books.ask(order)
    machine = Machine(1)
    books.issue(machine.request(asked))
    again = machine.reimaged()
    file = books.issue(again.request(asked))
    assert (file.seq, file.device and file.device.key) == (2, install.public_key(again.key))
    shown = books.json(capsys, "order", "show", order)
    assert (len(shown["devices"]), shown["rehosts"]) == (1, 1)


def test_a_new_system_is_recognized_under_a_later_install_request_too(books: Books) -> None:
    order = books.order()
    machine = Machine(1)
    books.issue(machine.request(books.ask(order)))
    assert books.issue(machine.reimaged().request(books.ask(order, "--weights", "disk=30,nic=30"))).seq == 2


def test_a_device_whose_hardware_changed_gets_its_place_again_if_a_person_says_so(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    order = books.order()
    asked = books.ask(order)
    machine = Machine(1)
    books.issue(machine.request(asked))
    other = Machine(2)
    other.key = machine.key
    file = books.issue(other.request(asked), "--rehost")
    assert file.seq == 2
    shown = books.json(capsys, "order", "show", order)
    assert ([each["device"] for each in shown["devices"]], shown["rehosts"]) == ([1], 1)


def test_a_new_device_takes_the_place_of_the_old_one_and_its_number_goes_on(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = books.order(), books.order()
    machine = Machine(1)
    for order in (one, two):
        books.issue(machine.request(books.ask(order)))
    request = Machine(2).request(books.ask(two))
    file = books.issue(request, "--rehost")
    assert (file.seq, len(file.lines)) == (3, 2)
    rows = {row["order"]: row for row in books.json(capsys, "order", "list")["orders"]}
    assert [(rows[order]["devices"], rows[order]["rehosts"]) for order in (one, two)] == [([2], 1), ([2], 1)]
    assert books.json(capsys, "history", "--device", 1)["documents"][-1]["note"] == "device 1 was replaced by device 2"
    (row,) = books.json(capsys, "history", "--device", 2)["documents"]
    assert (row["id"], row["rehost"], row["rehosted"], row["note"]) == (file.file, "moved", [one, two], None)


def test_the_old_device_back_in_its_place_gets_a_higher_number_than_ever(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    order = books.order()
    asked = books.ask(order)
    old, new = Machine(1), Machine(2)
    options: list[list[str]] = [[], ["--rehost"], ["--rehost"]]
    seqs = [books.issue(each.request(asked), *more).seq for each, more in zip((old, new, old), options, strict=True)]
    assert seqs == [1, 2, 3]
    (device,) = books.json(capsys, "order", "show", order)["devices"]
    notes = [row["note"] for row in books.json(capsys, "history", "--device", device["device"])["documents"]]
    assert (device["device"], notes) == (3, [None])


@pytest.mark.parametrize("options", [["--rehost"], ["--rehost", 1]], ids=["any", "itself"])
def test_a_changed_device_that_joins_an_order_takes_a_free_place_and_nobody_s(
    books: Books, capsys: pytest.CaptureFixture[str], options: list[str | int]
) -> None:
    machine, second = Machine(1), books.order("--devices", 2)
    books.issue(machine.request(books.ask(books.order())))
    asked = books.ask(second)
    books.issue(Machine(2).request(asked))
    changed = Machine(3)
    changed.key = machine.key
    assert len(books.issue(changed.request(asked), *options).lines) == 2
    shown = books.json(capsys, "order", "show", second)
    assert ([each["device"] for each in shown["devices"]], shown["rehosts"]) == ([1, 2], 0)


def test_of_several_devices_the_one_named_is_replaced(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    order = books.order("--devices", 2)
    asked = books.ask(order)
    for number in (1, 2):
        books.issue(Machine(number).request(asked))
    books.issue(Machine(3).request(asked), "--rehost", 1)
    shown = books.json(capsys, "order", "show", order)
    assert [each["device"] for each in shown["devices"]] == [2, 3]


def test_a_known_device_takes_over_the_orders_of_another_one(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = Machine(1), Machine(2)
    first, second = books.order(), books.order("--license", "kso.pay,uncounted")
    books.issue(one.request(books.ask(first)))
    asked = books.ask(second)
    for _ in range(4):
        books.issue(two.request(asked))
    file = books.issue(one.request(asked), "--rehost")
    assert (file.seq, [line.name for line in file.lines]) == (5, ["kso.scan", "kso.pay"])
    rows = {row["order"]: row for row in books.json(capsys, "order", "list")["orders"]}
    assert [(rows[order]["devices"], rows[order]["rehosts"]) for order in (first, second)] == [([1], 0), ([1], 1)]


def test_a_device_that_was_sold_on_gets_higher_numbers_from_its_new_owner(books: Books) -> None:
    machine = Machine(1)
    asked = books.ask(books.order())
    for _ in range(3):
        books.issue(machine.request(asked))
    assert books.issue(machine.request(books.ask(books.order(customer="c-2")))).seq == 4


def test_customers_have_salts_of_their_own_and_keep_them(books: Books) -> None:
    first, second = books.order(), books.order(customer="c-2")
    salts = [books.ask(order).salt for order in (first, second, first, books.order())]
    assert salts[0] == salts[2] == salts[3] != salts[1]


def test_a_newer_install_request_is_later_than_all_of_the_customer(books: Books) -> None:
    orders = books.order(), books.order()
    issued = [books.ask(order).issued for order in (*orders, *orders)]
    assert issued == sorted(set(issued))


def test_a_factor_that_is_not_asked_for_any_more_is_not_missed(books: Books) -> None:
    order = books.order()
    machine = Machine(1)
    books.issue(machine.request(books.ask(order)))
    only = books.ask(order, "--weights", "disk=1,nic=2", "--share", 100)
    file = books.issue(machine.request(only))
    assert file.device is not None
    assert (file.seq, dict(file.device.weights), file.device.share) == (2, {"disk": 1, "nic": 2}, 100)


def test_what_was_not_asked_for_is_not_bound(books: Books) -> None:
    machine = Machine(1)
    order = books.order()
    everything = machine.request(books.ask(order)).fingerprint
    asked = books.ask(order, "--weights", "disk=1,nic=2")
    file = books.issue(machine.request(asked, fingerprint=everything))
    assert file.device is not None
    assert set(file.device.fingerprint) == {"disk", "nic"}


def test_the_vendor_s_url_goes_into_the_install_request(tmp_path: Path) -> None:
    books = Books(tmp_path)
    conf = books.dir / "profile" / "vendor.conf"
    conf.write_text(conf.read_text() + "url = https://licenses.example\n")
    assert books.ask(books.order()).url == "https://licenses.example"


@pytest.mark.parametrize("kind", ["install request", "license file"])
def test_all_that_was_issued_can_be_issued_again(books: Books, tmp_path: Path, kind: str) -> None:
    order = books.order()
    first = books.ask(order)
    file = books.issue(Machine(1).request(first))
    books.issue(Machine(1).reimaged().request(books.ask(order)))
    id, text = (first.id, first.text) if kind == "install request" else (file.file, file.text)
    assert books.run("reissue", id, "-o", tmp_path / "again") == 0
    assert (tmp_path / "again").read_bytes() == text

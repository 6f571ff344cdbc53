"""Alarms: two machines that use the file of one are told to the vendor, and nobody is stopped by that."""

from __future__ import annotations

import time
from typing import Any

import pytest

from licd.license.dates import DAY_S, timestamp
from licd.license.document import LICENSE_FILE, UNCHANGED
from licd.license.lines import LicenseFile
from licd.rpc.errors import Refused
from tests.support.books import Books, Machine

Capture = pytest.CaptureFixture[str]
NOW = float(int(time.time()))


@pytest.fixture
def machine() -> Machine:
    return Machine(1)


@pytest.fixture
def file(books: Books, machine: Machine) -> LicenseFile:
    return books.issue(machine.request(books.ask(books.order("--renewal", "required,every=30,grace=14"))))


def alarms(books: Books, capsys: Capture, *options: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = books.json(capsys, "alarm", "list", *options)["alarms"]
    return rows


def other_disk(machine: Machine) -> Machine:
    return machine.changed(disk=["another"])


def elsewhere(machine: Machine) -> Machine:
    """The whole disk, with the key, in another machine."""
    other = Machine(9)
    other.key = machine.key
    return other


# --- one number, two fingerprints -----------------------------------------------------------------------------------


def test_one_number_from_two_fingerprints_raises_an_alarm_and_both_are_answered(
    books: Books, machine: Machine, file: LicenseFile, capsys: Capture
) -> None:
    assert books.renew_at(NOW, machine.renewal(file)).kind == UNCHANGED
    outcome = books.outcome_at(NOW + DAY_S, other_disk(machine).renewal(file))
    assert outcome.answer().kind == LICENSE_FILE
    assert outcome.alarm == "alarm 1: device 1: seq 1 was sent from two fingerprints (disk)"
    (alarm,) = alarms(books, capsys)
    assert {name: alarm[name] for name in ("device", "customer", "orders", "seq", "later_seq")} == {
        "device": 1,
        "customer": "c-1",
        "orders": [1],
        "seq": 1,
        "later_seq": None,
    }
    assert (alarm["before"], alarm["at"], alarm["times"]) == (timestamp(NOW), timestamp(NOW + DAY_S), 1)
    assert (alarm["differs"], alarm["matches"], alarm["closed"]) == (["disk"], True, None)


def test_a_copy_in_another_machine_raises_it_though_it_gets_nothing(
    books: Books, machine: Machine, file: LicenseFile, capsys: Capture
) -> None:
    books.renew_at(NOW, machine.renewal(file))
    outcome = books.outcome_at(NOW + 5, elsewhere(machine).renewal(file))
    assert isinstance(outcome.found, Refused)
    assert outcome.alarm is not None
    (alarm,) = alarms(books, capsys)
    assert (alarm["matches"], "--rehost" in alarm["next"]) == (False, True)
    assert alarm["differs"] == ["system_uuid", "board_serial", "product_serial", "disk", "nic"]
    assert books.renew_at(NOW + 9, machine.renewal(file)).kind == UNCHANGED


def test_a_copy_that_asks_first_is_compared_with_what_the_file_was_issued_for(
    books: Books, machine: Machine, file: LicenseFile, capsys: Capture
) -> None:
    assert books.outcome_at(NOW, elsewhere(machine).renewal(file)).alarm is not None
    (alarm,) = alarms(books, capsys)
    assert alarm["before"] == timestamp(file.issued)


def test_another_key_on_the_same_hardware_is_renewed_and_told(
    books: Books, machine: Machine, file: LicenseFile, capsys: Capture
) -> None:
    outcome = books.outcome_at(NOW, machine.reimaged().renewal(file))
    assert outcome.answer().kind == LICENSE_FILE
    assert outcome.alarm == "alarm 1: device 1: seq 1 was sent under another key"
    (alarm,) = alarms(books, capsys)
    assert (alarm["differs"], "set up anew" in alarm["next"]) == (["key"], True)


def test_a_repair_before_the_first_renewal_is_none(books: Books, machine: Machine, file: LicenseFile) -> None:
    assert books.outcome_at(NOW, other_disk(machine).renewal(file)).alarm is None


def test_what_is_only_added_or_only_gone_or_weak_is_none(books: Books, machine: Machine, file: LicenseFile) -> None:
    books.renew_at(NOW, machine.renewal(file))
    more, less = machine.changed(disk=["disk-1", "more"]), machine.changed(nic=[])
    other_mirror = machine.changed(disk=["disk-1", "yet another"])
    for n, each in enumerate((more, other_mirror, less, machine.changed(cpu=["new"], machine_id=["new"]))):
        outcome = books.outcome_at(NOW + n, each.renewal(file))
        assert (outcome.answer().kind, outcome.alarm) == (LICENSE_FILE, None)


def test_the_same_request_again_is_none(books: Books, machine: Machine, file: LicenseFile, capsys: Capture) -> None:
    requests = machine.renewal(file), other_disk(machine).renewal(file)
    for request in (*requests, *requests):
        books.outcome_at(NOW, request)
    assert alarms(books, capsys)[0]["times"] == 1


# --- an earlier number ----------------------------------------------------------------------------------------------


def test_a_device_that_lost_its_way_back_to_the_newest_file_is_none(
    books: Books, machine: Machine, file: LicenseFile
) -> None:
    newer(books, machine, file, 9)
    newer(books, machine, file, 10)
    assert books.outcome_at(NOW, machine.renewal(file)).alarm is None


def newer(books: Books, machine: Machine, file: LicenseFile, seats: int) -> LicenseFile:
    assert books.run("order", "set", 1, "--license", f"kso.scan,seats={seats}") == 0
    return books.verify(books.renew_at(NOW, machine.renewal(file)).data)


def test_an_earlier_number_after_a_later_one_was_in_use_raises_an_alarm(
    books: Books, machine: Machine, file: LicenseFile, capsys: Capture
) -> None:
    second = newer(books, machine, file, 9)
    assert alarms(books, capsys) == []
    assert books.outcome_at(NOW + 1, machine.renewal(file)).alarm is None  # the second was lost, perhaps
    assert books.renew_at(NOW + 2, machine.renewal(second)).kind == UNCHANGED
    late = books.outcome_at(NOW + 3, machine.renewal(file, issued=NOW + 1))
    assert late.alarm is None  # made before, and by post
    outcome = books.outcome_at(NOW + 3, machine.renewal(file, issued=NOW + 3))
    assert outcome.answer().data == second.text
    assert outcome.alarm == "alarm 1: device 1: seq 1 was sent after seq 2 was in use"
    (alarm,) = alarms(books, capsys)
    assert (alarm["seq"], alarm["later_seq"], alarm["differs"]) == (1, 2, [])
    assert (alarm["before"], alarm["at"]) == (timestamp(NOW + 2), timestamp(NOW + 3))
    assert "backup" in alarm["next"]


# --- what a person does ---------------------------------------------------------------------------------------------


def test_what_happens_again_is_counted_and_once_closed_raised_anew(
    books: Books, machine: Machine, file: LicenseFile, capsys: Capture
) -> None:
    books.renew_at(NOW, machine.renewal(file))
    for n in range(3):
        books.outcome_at(NOW + n, elsewhere(machine).renewal(file))
    (alarm,) = alarms(books, capsys)
    assert (alarm["times"], alarm["at"], alarm["last"]) == (3, timestamp(NOW), timestamp(NOW + 2))
    assert books.run("alarm", "close", 1) == 0
    assert books.run("alarm", "close", 1) == 0
    assert alarms(books, capsys) == []
    books.outcome_at(NOW + 9, elsewhere(machine).renewal(file))
    assert [(row["alarm"], row["closed"] is None) for row in alarms(books, capsys, "--all")] == [(1, False), (2, True)]


def test_a_copy_stays_one_in_the_alarm_though_a_repair_follows(
    books: Books, machine: Machine, file: LicenseFile, capsys: Capture
) -> None:
    books.renew_at(NOW, machine.renewal(file))
    books.outcome_at(NOW + 1, elsewhere(machine).renewal(file))
    books.outcome_at(NOW + 2, other_disk(machine).renewal(file))
    (alarm,) = alarms(books, capsys)
    assert (alarm["times"], alarm["matches"]) == (2, False)


def test_however_many_machines_ask_one_alarm_of_each_kind_is_open(
    books: Books, machine: Machine, file: LicenseFile, capsys: Capture
) -> None:
    second = newer(books, machine, file, 9)
    books.renew_at(NOW, machine.renewal(second))
    for n in range(20, 40):
        books.outcome_at(NOW, Machine(n).renewal(second))
        books.outcome_at(NOW, Machine(n).renewal(file, issued=NOW))
    assert len(alarms(books, capsys)) == 2


def test_the_list_says_in_words_what_was_seen_and_what_to_do(
    books: Books, machine: Machine, file: LicenseFile, capsys: Capture
) -> None:
    capsys.readouterr()
    assert books.run("alarm", "list") == 0
    assert capsys.readouterr().out == "no alarm is open\n"
    books.renew_at(NOW, machine.renewal(file))
    books.renew_at(NOW + 60, other_disk(machine).renewal(file))
    assert books.run("alarm", "list") == 0
    assert capsys.readouterr().out.splitlines() == [
        "alarm 1: device 1 of the customer c-1, order 1",
        "      seq 1 was sent from two fingerprints (disk)",
        f"      first {timestamp(NOW)}, then {timestamp(NOW + 60)}",
        "      Ask the customer whether these parts were replaced; if so, close this. "
        "If not, two machines use one file.",
    ]


def test_an_alarm_that_there_is_not_is_not_closed(books: Books, capsys: Capture) -> None:
    books.order()
    assert books.run("alarm", "close", 7) == 1
    assert "There is no alarm 7." in capsys.readouterr().err


def test_the_server_says_it_once_on_its_standard_error(
    books: Books, machine: Machine, file: LicenseFile, capsys: Capture
) -> None:
    web = books.web()
    web.renewal(machine.renewal(file))
    capsys.readouterr()
    for _ in range(2):
        web.post("/renewal", elsewhere(machine).renewal(file).text)
    said = [line for line in capsys.readouterr().err.splitlines() if " alarm 1: device 1: " in line]
    assert len(said) == 1
    assert machine.renewal(file).fingerprint["disk"][0] not in said[0]

"""What a renewal brings: nothing new, the newest file, or a new one, and each device only once."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from licd.license import schedule
from licd.license.dates import DAY_S, FOREVER
from licd.license.document import LICENSE_FILE, REFUSAL, UNCHANGED
from licd.license.lines import LicenseFile
from licd.license.renewal import Usage
from licd.rpc.errors import REHOST_LIMIT, Refused
from licd_vendor import load, pacing, renewing, store, tables
from licd_vendor.load import Load
from tests.support.books import Books, Machine

Capture = pytest.CaptureFixture[str]
NOW = float(int(time.time()))
MONTHLY = ("--renewal", "required,every=30,grace=14")


class Shop:
    """A customer's device with a file in force."""

    def __init__(self, books: Books, *options: str | int) -> None:
        self.books = books
        self.order = books.order(*options)
        self.machine = Machine(1)
        self.asked = books.ask(self.order)
        self.file = books.issue(self.machine.request(self.asked))

    def issued(self) -> int:
        return len(self.books.seqs())


@pytest.fixture
def shop(books: Books) -> Shop:
    return Shop(books, *MONTHLY)


def renewed(shop: Shop, file: LicenseFile, now: float = NOW, machine: Machine | None = None) -> LicenseFile:
    answer = shop.books.renew_at(now, (machine or shop.machine).renewal(file))
    assert answer.kind == LICENSE_FILE
    return shop.books.verify(answer.data)


# --- unchanged, and the same again ----------------------------------------------------------------------------------


def test_what_has_not_changed_is_said_so_and_takes_no_number(shop: Shop) -> None:
    request = shop.machine.renewal(shop.file)
    answer = shop.books.renew_at(NOW + 40 * DAY_S, request)
    told = shop.books.answer(answer.data)
    assert (told.kind, told.request, told.file, told.seq) == (UNCHANGED, request.id, shop.file.file, 1)
    assert (told.device, told.issued) == (request.device, NOW + 40 * DAY_S)
    assert shop.issued() == 1


def test_the_same_request_again_gets_the_same_file_byte_for_byte(shop: Shop) -> None:
    assert shop.books.run("order", "set", shop.order, "--license", "kso.scan,seats=5") == 0
    request = shop.machine.renewal(shop.file)
    first = shop.books.renew_at(NOW, request)
    again = shop.books.renew_at(NOW + 90 * DAY_S, request)
    assert (first.data, first.again, again.again) == (again.data, False, True)
    assert shop.issued() == 2


def test_the_same_request_again_means_the_same_where_no_file_was_issued(shop: Shop) -> None:
    request = shop.machine.renewal(shop.file)
    told = [shop.books.answer(shop.books.renew_at(NOW + n, request).data) for n in range(2)]
    assert [(each.kind, each.request) for each in told] == [(UNCHANGED, request.id)] * 2
    assert shop.books.count("renewals") == 1


def test_tags_in_another_order_are_no_change(shop: Shop) -> None:
    request = shop.machine.renewal(shop.file)
    turned = {factor: list(reversed(tags)) for factor, tags in request.fingerprint.items()}
    assert turned != dict(request.fingerprint)
    assert shop.books.renew_at(NOW, shop.machine.renewal(shop.file, fingerprint=turned)).kind == UNCHANGED


def test_a_request_that_was_answered_gets_what_is_sold_now(shop: Shop) -> None:
    assert shop.books.run("order", "set", shop.order, "--license", "kso.scan,seats=9") == 0
    request = shop.machine.renewal(shop.file)
    assert shop.books.renew_at(NOW, request).kind == LICENSE_FILE
    assert shop.books.run("order", "set", shop.order, "--license", "kso.scan,seats=1") == 0
    less = shop.books.verify(shop.books.renew_at(NOW, request).data)
    assert ([line.seats for line in less.lines], less.seq) == ([1], 3)
    assert shop.books.run("order", "suspend", shop.order) == 0
    assert shop.books.renew_at(NOW, request).kind == REFUSAL


# --- what a person changed ------------------------------------------------------------------------------------------


def test_changed_seats_come_with_the_next_renewal(shop: Shop) -> None:
    assert shop.books.run("order", "set", shop.order, "--license", "kso.scan,seats=9,expires=2031-01-01") == 0
    request = shop.machine.renewal(shop.file)
    file = shop.books.verify(shop.books.renew(request))
    assert (file.seq, file.request, file.device) == (2, request.id, shop.file.device)
    assert [(line.id, line.seats, line.expires) for line in file.lines] == [(shop.file.lines[0].id, 9, "2031-01-01")]
    assert shop.books.renew_at(NOW, shop.machine.renewal(file)).kind == UNCHANGED


def test_of_several_orders_those_that_are_suspended_are_left_out_and_come_back(shop: Shop) -> None:
    other = shop.books.order("--license", "kso.pay,uncounted", *MONTHLY)
    both = shop.books.issue(shop.machine.request(shop.books.ask(other)))
    assert shop.books.run("order", "suspend", other, "--reason", "unpaid") == 0
    answer = shop.books.renew_at(NOW, shop.machine.renewal(both))
    less = shop.books.verify(answer.data)
    assert ([line.name for line in less.lines], less.seq, answer.without) == (["kso.scan"], 3, [other])
    assert shop.books.run("order", "resume", other) == 0
    assert [line.name for line in renewed(shop, less).lines] == ["kso.scan", "kso.pay"]


def test_an_order_that_has_expired_goes_with_the_next_renewal(books: Books) -> None:
    shop = Shop(books, "--license", "kso.scan,expires=2027-01-31", *MONTHLY)
    other = books.order("--license", "kso.pay,uncounted", *MONTHLY)
    both = books.issue(shop.machine.request(books.ask(other)))
    assert books.renew_at(NOW, shop.machine.renewal(both)).kind == UNCHANGED
    assert [line.name for line in renewed(shop, both, NOW + 90 * DAY_S).lines] == ["kso.pay"]


def test_a_changed_renewal_is_a_new_file_too(shop: Shop) -> None:
    assert shop.books.run("order", "set", shop.order, "--renewal", "optional,every=60,grace=0") == 0
    assert renewed(shop, shop.file).renewal.every_days == 60


# --- an earlier number ----------------------------------------------------------------------------------------------


def test_an_earlier_number_gets_the_newest_file_until_that_is_due(shop: Shop) -> None:
    assert shop.books.run("order", "set", shop.order, "--license", "kso.scan,seats=9") == 0
    second = renewed(shop, shop.file)
    assert renewed(shop, shop.file, NOW + 30 * DAY_S - 1).text == second.text
    third = renewed(shop, shop.file, NOW + 30 * DAY_S)
    assert (third.seq, [line.seats for line in third.lines]) == (3, [9])
    assert shop.issued() == 3


def test_an_earlier_number_gets_a_new_file_if_something_changed_since_the_newest(shop: Shop) -> None:
    for seats in (9, 4):
        assert shop.books.run("order", "set", shop.order, "--license", f"kso.scan,seats={seats}") == 0
        newest = renewed(shop, shop.file)
    assert (newest.seq, newest.lines[0].seats) == (3, 4)


def test_a_file_without_renewal_is_never_due_and_asked_by_hand_gets_the_newest(books: Books) -> None:
    shop = Shop(books)
    assert books.run("order", "set", shop.order, "--license", "kso.scan,seats=9") == 0
    second = renewed(shop, shop.file)
    assert renewed(shop, shop.file, NOW + 900 * DAY_S).text == second.text


def test_who_activates_again_after_a_renewal_gets_the_renewed_file(shop: Shop) -> None:
    assert shop.books.run("order", "set", shop.order, "--license", "kso.scan,seats=9") == 0
    second = renewed(shop, shop.file)
    assert shop.books.web().license_file(shop.machine.request(shop.asked)).text == second.text


def test_an_order_that_came_by_a_license_request_meanwhile_is_in_the_renewal(shop: Shop) -> None:
    other = shop.books.order("--license", "kso.pay,uncounted", *MONTHLY)
    both = shop.books.issue(shop.machine.request(shop.books.ask(other)))
    assert renewed(shop, shop.file).text == both.text


# --- the hardware ---------------------------------------------------------------------------------------------------


def replaced(shop: Shop, capsys: Capture) -> list[int | None]:
    rows = shop.books.json(capsys, "history", "--device", 1)["documents"]
    return [row["replaced"] for row in sorted(rows, key=lambda row: int(row["seq"]))]


def test_a_replaced_part_is_bound_and_counted(shop: Shop, capsys: Capture) -> None:
    repaired = shop.machine.changed(disk=["a new one"])
    file = renewed(shop, shop.file, machine=repaired)
    assert file.device is not None
    assert shop.file.device is not None
    assert file.device.fingerprint["disk"] != shop.file.device.fingerprint["disk"]
    assert replaced(shop, capsys) == [None, 24]
    assert shop.books.renew_at(NOW, repaired.renewal(file)).kind == UNCHANGED


def test_a_part_more_is_bound_without_a_count(shop: Shop, capsys: Capture) -> None:
    file = renewed(shop, shop.file, machine=shop.machine.changed(disk=["disk-1", "one more"]))
    assert file.device is not None
    assert len(file.device.fingerprint["disk"]) == 2
    assert replaced(shop, capsys) == [None, 0]


def test_what_cannot_be_read_for_a_while_stays_bound_and_is_no_change(shop: Shop) -> None:
    factors = ("system_uuid", "board_serial")
    request = shop.machine.renewal(shop.file, unreadable=factors)
    assert not request.fingerprint.keys() & set(factors)
    assert shop.books.renew_at(NOW, request).kind == UNCHANGED


def test_a_new_system_on_the_same_hardware_counts_as_a_re_host_within_the_limit(books: Books, capsys: Capture) -> None:
    shop = Shop(books, "--rehosts", 1, *MONTHLY)
    again = shop.machine.reimaged()
    file = renewed(shop, shop.file, machine=again)
    assert file.device is not None
    assert file.device.key == again.renewal(file).device
    assert books.json(capsys, "order", "show", shop.order)["rehosts"] == 1
    outcome = books.outcome_at(NOW, again.reimaged().renewal(file))
    assert isinstance(outcome.found, Refused)
    assert outcome.found.error is REHOST_LIMIT
    assert shop.issued() == 2


def test_a_person_takes_other_hardware_for_the_device_by_file(shop: Shop, tmp_path: Path, capsys: Capture) -> None:
    moved = Machine(2)
    moved.key = shop.machine.key
    request = moved.renewal(shop.file)
    (tmp_path / "request").write_bytes(request.text)
    assert shop.books.run("renew", tmp_path / "request", "-o", tmp_path / "answer") == 1
    assert "ANOTHER_DEVICE" in capsys.readouterr().err
    assert not (tmp_path / "answer").exists()
    file = shop.books.verify(shop.books.renew(request, "--rehost"))
    assert file.device is not None
    assert file.device.fingerprint == request.fingerprint
    assert "re-host 1 of 3 of order 1" in capsys.readouterr().out
    assert shop.books.renew_at(NOW, moved.renewal(file)).kind == UNCHANGED


def test_a_weak_device_that_a_person_took_is_renewed_without_him(books: Books) -> None:
    weak = Machine(1, board_serial=[], product_serial=[], disk=[], nic=[])
    asked = books.ask(books.order(*MONTHLY))
    file = books.issue(weak.request(asked), "--weak")
    assert books.renew_at(NOW, weak.renewal(file)).kind == UNCHANGED
    assert books.run("order", "set", 1, "--license", "kso.scan,seats=7") == 0
    answer = books.renew_at(NOW, weak.renewal(file))
    assert books.renew_at(NOW, weak.renewal(books.verify(answer.data))).kind == UNCHANGED


def test_many_disks_that_a_person_took_are_renewed_without_him(books: Books) -> None:
    many = Machine(1, disk=[f"disk-{n}" for n in range(12)])
    file = books.issue(many.request(books.ask(books.order(*MONTHLY))), "--many")
    assert books.renew_at(NOW, many.renewal(file)).kind == UNCHANGED


def test_a_file_of_a_place_that_was_given_away_and_got_back_is_known_by_its_key(books: Books) -> None:
    shop = Shop(books, *MONTHLY)
    two = Machine(2)
    books.issue(two.request(shop.asked), "--rehost")
    back = books.issue(shop.machine.request(shop.asked), "--rehost")
    assert renewed(shop, shop.file).text == back.text


# --- signers --------------------------------------------------------------------------------------------------------


def test_what_a_void_signer_signed_is_replaced_though_nothing_else_changed(shop: Shop) -> None:
    assert shop.books.run("signer", "new") == 0
    assert shop.books.renew_at(NOW, shop.machine.renewal(shop.file)).kind == UNCHANGED
    (old,) = shop.books.dir.glob("signer-*.pem")
    assert shop.books.run("withdraw", old) == 0
    assert shop.books.renew_at(NOW, shop.machine.renewal(shop.file)).kind == UNCHANGED
    assert shop.books.run("withdraw", old, "--void") == 0
    assert renewed(shop, shop.file).seq == 2


def test_a_file_that_is_no_longer_taken_as_new_is_not_given_out_again(shop: Shop) -> None:
    assert shop.books.run("order", "set", shop.order, "--license", "kso.scan,seats=9") == 0
    request = shop.machine.renewal(shop.file)
    lost = shop.books.verify(shop.books.renew(request))
    assert shop.books.run("signer", "new") == 0
    (old,) = shop.books.dir.glob("signer-*.pem")
    assert shop.books.run("withdraw", old) == 0
    again = shop.books.verify(shop.books.renew_at(NOW, request).data)
    assert (lost.seq, again.seq) == (2, 3)
    assert shop.books.renew_at(NOW, request).data == again.text
    assert renewed(shop, shop.file).text == again.text


# --- what is remembered ---------------------------------------------------------------------------------------------


def test_usage_is_kept_by_device_license_and_day(shop: Shop, capsys: Capture) -> None:
    for n, (since, peaks) in enumerate((("2026-11-01", [1, 2, 3]), ("2026-11-03", [2, 0]))):
        shop.books.renew_at(NOW + n, shop.machine.renewal(shop.file, usage=Usage(since, {"kso.scan": peaks})))
    other = Shop(shop.books, "--license", "kso.scan,seats=1")
    assert other.books.renew_at(NOW, other.machine.renewal(other.file))
    assert shop.books.json(capsys, "usage") == {
        "usage": [
            {
                "customer": "c-1",
                "device": 1,
                "license": "kso.scan",
                "seats": 4,
                "peak": 3,
                "days": {"2026-11-01": 1, "2026-11-02": 2, "2026-11-03": 3, "2026-11-04": 0},
            }
        ]
    }
    assert shop.books.json(capsys, "usage", "--customer", "c-2") == {"usage": []}
    assert shop.books.run("usage") == 0
    assert "c-1       1       kso.scan  2026-11-01  2026-11-04  4     1.5   3     4" in capsys.readouterr().out


def test_of_one_device_only_so_many_renewals_are_remembered(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(renewing, "MAX_KEPT", 3)
    for n in range(5):
        shop.books.renew_at(NOW + n, shop.machine.renewal(shop.file, usage=Usage(f"2026-11-0{n + 1}", {"kso.a": [n]})))
    with store.transaction(shop.books.database, "acme") as session:
        rows = session.query(tables.Renewal).order_by(tables.Renewal.id).all()
        assert [row.usage["from"] for row in rows] == ["2026-11-03", "2026-11-04", "2026-11-05"]


# --- how much there is to do ----------------------------------------------------------------------------------------


def test_a_device_has_so_many_answers_in_a_day_and_not_one_more(shop: Shop) -> None:
    requests = [shop.machine.renewal(shop.file) for _ in range(load.MAX_A_DAY)]
    for n, request in enumerate(requests):
        shop.books.renew_at(NOW + n, request, load=Load())
    last = shop.machine.renewal(shop.file)
    with pytest.raises(load.ComeAgain) as refused:
        shop.books.renew_at(NOW + 3600, last, load=Load())
    assert refused.value.seconds == DAY_S - 3600
    assert shop.books.renew_at(NOW + 3600, requests[0], load=Load()).kind == UNCHANGED  # answered before
    assert shop.books.renew_at(NOW + 3600, last).kind == UNCHANGED  # a person asks
    assert shop.books.renew_at(NOW + DAY_S + 1, shop.machine.renewal(shop.file), load=Load()).kind == UNCHANGED


def test_who_has_time_is_put_off_beyond_the_load_and_who_has_none_is_not(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shop.books.renew_at(NOW, shop.machine.renewal(shop.file), load=Load(lambda: 0.5)).kind == UNCHANGED
    monkeypatch.setattr(pacing, "FREE", 1)
    before = shop.books.dump()
    due = NOW + 41 * DAY_S
    assert shop.books.renew_at(due, shop.machine.renewal(shop.file), load=Load(lambda: 0.5)).kind == UNCHANGED
    other = shop.machine.renewal(shop.file)
    with pytest.raises(load.ComeAgain) as refused:
        shop.books.renew_at(due + 1, other, load=Load(lambda: 0.5))
    assert pacing.MIN_WAIT_S < refused.value.seconds <= pacing.MAX_WAIT_S
    assert len(shop.books.dump()) == len(before) + 1
    with store.transaction(shop.books.database, "acme") as session:
        session.query(tables.Renewal).update({"at": due + 55 * DAY_S - 100, "answer": LICENSE_FILE})
    late = NOW + 55 * DAY_S
    assert shop.books.renew_at(late, shop.machine.renewal(shop.file), load=Load(lambda: 0.5)).kind == UNCHANGED


class Told(Load):
    """What the renewal says of the time that a device has; it is always served."""

    def wait_s(self, session: Session, now: float, left: Callable[[], tuple[float, float]]) -> int | None:
        self.left = left()
        return None


def time_left(shop: Shop, now: float) -> tuple[float, float]:
    told = Told()
    shop.books.renew_at(now, shop.machine.renewal(shop.file), load=told)
    return told.left


def attempt_days(shop: Shop, days: int) -> float:
    share = schedule.share(shop.machine.renewal(shop.file).device, "acme")
    return days * DAY_S * (1 + share / 3)


def test_the_time_a_device_has_counts_from_its_file_or_the_last_unchanged_answer(shop: Shop) -> None:
    attempt, issued = attempt_days(shop, 30), shop.file.issued
    assert time_left(shop, issued + 50 * DAY_S) == pytest.approx(
        (max(0, attempt + 14 * DAY_S - 50 * DAY_S), 50 * DAY_S - attempt)
    )
    assert time_left(shop, issued + 51 * DAY_S) == pytest.approx((attempt + 13 * DAY_S, 0))
    assert time_left(shop, issued + 151 * DAY_S) == pytest.approx((0, 100 * DAY_S - attempt))


def test_only_what_is_required_stops(books: Books) -> None:
    optional = Shop(books, "--renewal", "optional,every=30,grace=0")
    late = 100 * DAY_S - attempt_days(optional, 30)
    assert time_left(optional, optional.file.issued + 100 * DAY_S) == pytest.approx((FOREVER, late))


def test_what_is_never_renewed_is_never_late(books: Books) -> None:
    never = Shop(books, "--renewal", "none")
    assert time_left(never, NOW + 1000 * DAY_S) == (FOREVER, 0)


def test_a_clock_that_was_set_back_puts_nobody_off(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "MAX_A_DAY", 1)
    shop.books.renew_at(NOW + 30 * DAY_S, shop.machine.renewal(shop.file))
    assert shop.books.renew_at(NOW, shop.machine.renewal(shop.file), load=Load()).kind == UNCHANGED


def test_a_file_of_a_clock_that_was_ahead_is_given_to_nobody_again(shop: Shop) -> None:
    assert shop.books.run("order", "set", shop.order, "--license", "kso.scan,seats=9") == 0
    request = shop.machine.renewal(shop.file)
    ahead = shop.books.verify(shop.books.renew_at(NOW + 300 * DAY_S, request).data)
    for each in (request, shop.machine.renewal(shop.file)):
        file = shop.books.verify(shop.books.renew_at(NOW, each).data)
        assert (file.issued, file.seq) == (NOW, ahead.seq + 1)


def test_the_mean_load_is_that_of_the_devices_there_are(books: Books) -> None:
    shop = Shop(books, *MONTHLY)
    asked = books.ask(books.order("--devices", 2, "--renewal", "optional,every=60,grace=0", customer="c-2"))
    for n in (5, 6):
        books.issue(Machine(n).request(asked))
    books.order(*MONTHLY)  # nobody has it
    with store.transaction(books.database, "acme") as session:
        assert load.expected(session) == pytest.approx(1 / 35 + 2 / 70)
    assert books.run("order", "suspend", shop.order) == 0
    with store.transaction(books.database, "acme") as session:
        assert load.expected(session) == pytest.approx(2 / 70)

"""licd-vendor issue over years: devices that change piece by piece, and orders that end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta

import pytest

from licd.device.fingerprint import Match, match
from licd.license.dates import DAY_S, end_of
from licd.rpc.errors import ANOTHER_DEVICE, REHOST_LIMIT, Refused
from licd_vendor import orders, recognize, store
from licd_vendor.keys import Failure
from licd_vendor.recognize import ANY
from tests.support.books import Books, Machine

NOW = float(int(time.time()))
BOARD = ("system_uuid", "board_serial", "product_serial")


def other(machine: Machine, n: int, *factors: str) -> Machine:
    """The same machine with another one's of these factors."""
    return machine.changed(**{factor: [f"{factor}-other-{n}"] for factor in factors})


# --- what of a device was replaced ----------------------------------------------------------------------------------


def compared(weights: Mapping[str, int], *kept: str) -> Match:
    bound = {factor: ["000000"] for factor in weights}
    return match(bound, weights, 50, {factor: ["000000"] for factor in kept})


@pytest.mark.parametrize(
    ("weights", "kept", "percent"),
    [
        pytest.param({"disk": 30, "nic": 30}, ("disk", "nic"), 0, id="nothing"),
        pytest.param({"disk": 30, "nic": 30}, ("disk",), 50, id="half"),
        pytest.param({"disk": 2, "nic": 1}, ("disk",), 34, id="a third, rounded up"),
        pytest.param({"disk": 1, "nic": 999}, ("nic",), 1, id="a trifle"),
        pytest.param({"disk": 30, "nic": 30, "cpu": 500}, ("disk", "cpu"), 50, id="what travels with an image"),
        pytest.param({"cpu": 30, "machine_id": 10}, ("cpu",), 25, id="nothing strong"),
        pytest.param({}, (), 0, id="nothing bound"),
    ],
)
def test_what_was_replaced_is_counted_by_the_weight_of_the_strong_factors(
    weights: dict[str, int], kept: tuple[str, ...], percent: int
) -> None:
    assert recognize.replaced(compared(weights, *kept)) == percent


def test_two_whole_devices_cannot_share_an_order_by_small_steps(books: Books) -> None:
    asked = books.ask(books.order())
    one = Machine(1)
    books.issue(one.request(asked))
    halfway = other(one, 2, *BOARD)
    books.issue(halfway.request(asked))
    two = other(halfway, 2, "disk", "nic")
    with pytest.raises(Refused, match="of device 1 100 percent was replaced within a year") as refused:
        books.issue_at(NOW, two.request(asked))
    assert refused.value.error is ANOTHER_DEVICE


def test_a_new_system_in_between_does_not_hide_the_steps(books: Books) -> None:
    asked = books.ask(books.order())
    one = Machine(1)
    books.issue(one.request(asked))
    halfway = other(one, 2, *BOARD)
    books.issue(halfway.request(asked))
    halfway = halfway.reimaged()
    books.issue(halfway.request(asked))
    two = other(halfway, 2, "disk", "nic")
    for each in (two, two.reimaged()):
        with pytest.raises(Refused, match="piece by piece"):
            books.issue_at(NOW, each.request(asked))


def test_what_cannot_be_read_is_counted_as_replaced(books: Books) -> None:
    asked = books.ask(books.order())
    one = Machine(1)
    books.issue(one.request(asked))
    assert books.issue_at(NOW, one.request(asked, unreadable=BOARD)).issue.replaced == 52


def test_a_person_may_say_that_it_is_the_same_device_which_counts_and_begins_anew(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    order = books.order("--rehosts", 1)
    asked = books.ask(order)
    machine = Machine(1)
    books.issue(machine.request(asked))
    for n in range(4):  # 24 percent each
        machine = other(machine, n, "disk")
        books.issue(machine.request(asked))
    assert "note: 96 percent of the device was replaced within a year" in capsys.readouterr().out
    machine = other(machine, 4, "disk")
    assert books.issue_to(books.folder / "out", machine.request(asked)) == 1
    assert "120 percent" in capsys.readouterr().err
    with pytest.raises(Failure, match="comes from device 1, not from device 7"):
        books.issue_at(NOW, machine.request(asked), rehost=7)
    assert books.issue(machine.request(asked), "--rehost").seq == 6
    rows = books.json(capsys, "history", "--device", 1)["documents"]
    assert [(row["replaced"], row["rehost"]) for row in rows] == [
        (None, None), *[(24, None)] * 4, (None, "changed"),
    ]  # fmt: skip
    assert books.json(capsys, "order", "show", order)["rehosts"] == 1
    for n in range(5, 9):
        machine = other(machine, n, "disk")
        books.issue(machine.request(asked))
    with pytest.raises(Refused) as refused:
        books.issue_at(NOW, other(machine, 9, "disk").request(asked), rehost=ANY)
    assert refused.value.error is REHOST_LIMIT


def test_repairs_of_over_a_year_ago_are_forgotten(books: Books) -> None:
    asked = books.ask(books.order())
    one = Machine(1)
    halfway = other(one, 2, *BOARD)
    books.issue_at(NOW, one.request(asked))
    books.issue_at(NOW, halfway.request(asked))
    two = other(halfway, 2, "disk", "nic").request(asked)
    with pytest.raises(Refused):
        books.issue_at(NOW + 365 * DAY_S - 1, two)
    assert books.file_at(NOW + 365 * DAY_S, two).seq == 3


def test_what_is_added_is_free(books: Books) -> None:
    asked = books.ask(books.order())
    one = Machine(1)
    books.issue(one.request(asked))
    more = one.changed(disk=["disk-1", "a second"], chassis_serial=["a chassis"])
    assert books.issue_at(NOW, more.request(asked)).issue.replaced == 0


def test_another_device_in_its_place_begins_its_own_count(books: Books) -> None:
    asked = books.ask(books.order())
    one, two = Machine(1), Machine(2)
    books.issue(one.request(asked))
    books.issue(other(one, 3, *BOARD).request(asked))
    assert books.issue_at(NOW, two.request(asked), rehost=ANY).issue.replaced is None
    assert books.issue_at(NOW, other(two, 3, "disk", "nic").request(asked)).worn == 48


def test_taking_over_another_device_s_orders_hides_no_repairs_of_one_s_own(books: Books) -> None:
    one, two = Machine(1), Machine(2)
    first, second = books.ask(books.order()), books.ask(books.order())
    books.issue(one.request(first))
    books.issue(two.request(second))
    one = other(one, 3, *BOARD)
    assert books.issue_at(NOW, one.request(second), rehost=2).worn == 52
    with pytest.raises(Refused, match="piece by piece"):
        books.issue_at(NOW, other(one, 3, "disk", "nic").request(second))


# --- orders that end ------------------------------------------------------------------------------------------------


def a_day(days: int) -> str:
    return str(datetime.fromtimestamp(NOW, UTC).date() + timedelta(days))


def names(books: Books, now: float, machine: Machine, order: int) -> list[str]:
    return [line.name for line in books.file_at(now, machine.request(books.ask(order))).lines]


def test_an_order_is_in_the_file_until_the_grace_of_its_last_license_is_over(books: Books) -> None:
    last = a_day(20)
    short, long = f"kso.a,expires={a_day(2)}", f"kso.b,expires={last},grace_days=7"
    one, two = books.order("--license", short, "--license", long), books.order("--license", "kso.c")
    machine = Machine(1)
    over = end_of(last) + 7 * DAY_S
    assert names(books, NOW, machine, one) == ["kso.a", "kso.b"]
    assert names(books, over - 1, machine, two) == ["kso.a", "kso.b", "kso.c"]
    assert names(books, over, machine, two) == ["kso.c"]
    assert names(books, over, machine, one) == ["kso.c"]  # it is the device's still
    assert books.issue_at(over, machine.request(books.ask(one))).without == [one]


def test_a_perpetual_license_keeps_its_order_in_the_file(books: Books) -> None:
    one, two = books.order("--license", f"kso.a,expires={a_day(-99)}", "--license", "kso.b"), books.order()
    machine = Machine(1)
    books.issue(machine.request(books.ask(one)))
    assert names(books, NOW + 400 * DAY_S, machine, two) == ["kso.a", "kso.b", "kso.scan"]


def test_what_an_order_that_is_over_says_of_the_file_is_over_too(books: Books) -> None:
    described = books.folder / "order.json"
    described.write_text('{"device_grace_days": 99, "x": {"a": 1}, "licenses": [{"name": "kso.a"}]}')
    one = books.order(str(described))
    described.write_text('{"renewal": {"need": "none"}, "device_grace_days": 3, "licenses": [{"name": "kso.b"}]}')
    machine, two = Machine(1), books.order(str(described))
    books.issue(machine.request(books.ask(one)))
    request = machine.request(books.ask(two))
    assert books.run("order", "end", one) == 0
    file = books.issue(request)
    assert (file.device_grace_days, file.x) == (3, {})


def test_nothing_more_is_issued_for_an_order_that_was_ended(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    order = books.order()
    machine, asked = Machine(1), books.ask(order)
    request = machine.request(asked)
    first = books.issue(request)
    capsys.readouterr()
    assert books.run("order", "end", order) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0] == f"order 1: ended on {a_day(0)}"
    assert "1 device may go on with it" in said.err
    before = books.dump()
    assert books.run("install-request", "new", order, "-o", books.folder / "i") == 1
    assert f"The order 1 was ended on {a_day(0)}" in capsys.readouterr().err
    assert books.issue_to(books.folder / "out", machine.request(asked)) == 1
    assert f"The order 1 was ended on {a_day(0)}" in capsys.readouterr().err
    assert books.issue(request).text == first.text  # but for what was answered
    with store.transaction(books.dir / "vendor.db", "acme") as session:
        orders.end_order(session, order, NOW + DAY_S)  # once more
    assert books.dump() == before


def test_other_orders_of_the_device_go_on_without_the_one_that_was_ended(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = books.order(), books.order("--license", "kso.pay,uncounted")
    machine = Machine(1)
    books.issue(machine.request(books.ask(one)))
    asked = books.ask(two)
    books.issue(machine.request(asked))
    assert books.run("order", "end", one) == 0
    capsys.readouterr()
    assert [line.name for line in books.issue(machine.request(asked)).lines] == ["kso.pay"]
    said = capsys.readouterr().out
    assert "seq 3, 1 license, device 1, order 2\n" in said
    assert "note: nothing is issued for order 1 now, and it is not in it\n" in said
    rows = {row["order"]: row for row in books.json(capsys, "order", "list")["orders"]}
    assert [(rows[each]["state"], rows[each]["devices"]) for each in (one, two)] == [("ended", [1]), ("live", [1])]


def test_a_device_with_no_license_left_gets_no_file(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    one, two = books.order(), books.order("--license", f"kso.a,expires={a_day(-9)}")
    machine = Machine(1)
    books.issue(machine.request(books.ask(one)))
    request = machine.request(books.ask(two))
    assert books.run("order", "end", one) == 0
    before = books.dump()
    capsys.readouterr()
    assert books.issue_to(books.folder / "out", request) == 1
    assert "Nothing is left of orders 1, 2 for this device: no license would be in the file." in capsys.readouterr().err
    assert books.dump() == before


def test_an_order_that_is_over_and_may_not_be_moved_does_not_hold_the_others_back(
    books: Books, capsys: pytest.CaptureFixture[str]
) -> None:
    fixed, free = books.order("--rehosts", 0), books.order()
    machine = Machine(1)
    books.issue(machine.request(books.ask(fixed)))
    asked = books.ask(free)
    books.issue(machine.request(asked))
    assert books.run("order", "end", fixed) == 0
    assert len(books.issue(Machine(2).request(asked), "--rehost").lines) == 1
    rows = {row["order"]: row for row in books.json(capsys, "order", "list")["orders"]}
    assert [(rows[each]["devices"], rows[each]["rehosts"]) for each in (fixed, free)] == [([2], 0), ([2], 1)]


def test_the_state_of_an_order_is_shown(books: Books, capsys: pytest.CaptureFixture[str]) -> None:
    books.order()
    books.order("--license", f"kso.a,expires={a_day(-9)}")
    books.order()
    assert books.run("order", "end", 3) == 0
    rows = books.json(capsys, "order", "list")["orders"]
    assert [row["state"] for row in rows] == ["live", "expired", "ended"]
    assert [row["ended"] and date.fromisoformat(row["ended"][:10]) for row in rows][:2] == [None, None]
    assert rows[2]["ended"].startswith(a_day(0))
    assert books.run("order", "list") == 0
    assert [line.split()[3] for line in capsys.readouterr().out.splitlines()] == ["STATE", "live", "expired", "ended"]
    shown = []
    for number in (1, 2, 3):
        assert books.run("order", "show", number) == 0
        shown.append([line for line in capsys.readouterr().out.splitlines() if line.startswith("state")])
    assert [len(each) for each in shown] == [0, 1, 1]
    assert shown[2] == [f"state: ended on {a_day(0)}, so its licenses are in no further file"]

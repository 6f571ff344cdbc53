"""The life of a lease in licd-rpc(7): each row of its table is what the rules do."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest

from licd.rpc.errors import Refused
from licd.seats.events import KEEP, RELEASE, Event
from licd.seats.ledger import Grant, Ledger
from licd.seats.pool import Lease, Session
from tests.support.mdoc import section, source

ME, NOW, TTL = (1000, 42), 1000.0, 600


class Story:
    """One lease of a pool of two seats, by the rules alone. Times are seconds on CLOCK_BOOTTIME."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.session = Session(*ME)
        self.now = NOW
        self.count = 0
        self.start([])

    def start(self, events: Iterable[Event], *, same_boot: bool = True) -> None:
        """licd runs, having found these events on record."""
        self.ledger = Ledger()
        for event in events:
            self.ledger.apply(event)
        self.ledger.restart(same_boot=same_boot)
        self.ledger.set_pools({"kso.scan": (2, ((None, 2),))})
        self.ledger.promise_all(self.now, same_boot=same_boot)

    def apply(self, event: Event) -> None:
        self.events.append(event)
        self.ledger.apply(event)

    def acquire(self, holder: str = "till", seats: int = 1, on_close: str = KEEP) -> str:
        self.count += 1
        wish = ("kso.scan", holder, seats, TTL, on_close, None)
        grant = self.ledger.decide_acquire(wish, self.session, f"{self.count:024}", 0, self.now)
        return self._hold(grant)

    def confirm(self) -> str:
        return self._hold(self.ledger.decide_confirm(self.lease, self.session, self.now, by_holder=True))

    def _hold(self, grant: Grant) -> str:
        lease, event, deadline = grant
        if event is not None:
            self.apply(event)
            lease = self.ledger.leases[event.lease]
        assert lease is not None
        self.ledger.hold(lease, self.session, deadline, self.now)
        return lease.id

    def release(self) -> None:
        self.released = False
        if self.state == "none":
            return
        lease = self.lease
        event = self.ledger.decide_release(lease, self.session, None, admin=False)
        self.released = lease.live
        if lease.live:
            self.apply(event)
        else:
            self.ledger.forget(lease)

    def expire(self) -> None:
        for event in self.ledger.decide_expire(self.now, 100):
            self.apply(event)

    def pass_deadline(self) -> None:
        self.now += TTL + 1
        self.expire()

    def fill(self) -> None:
        self.acquire("other", 2 - self.ledger.pool("kso.scan").held)

    @property
    def lease(self) -> Lease:
        return self.ledger.find_holder("kso.scan", ME[0], "till", self.now)

    @property
    def state(self) -> str:
        try:
            return "held" if self.lease.live else "expired"
        except Refused:
            return "none"


def in_state(name: str) -> Story:
    story = Story()
    if name != "none":
        story.acquire()
    if name == "expired":
        story.pass_deadline()
    assert story.state == name
    return story


def refused(action: Callable[[], object]) -> str:
    with pytest.raises(Refused) as raised:
        action()
    return raised.value.error.name


def what_happens(story: Story, event: str) -> str:
    """What the rules make of it, in the words of the manual's table."""
    old_id, old_deadline = ("", 0.0) if story.state == "none" else (story.lease.id, story.lease.deadline)
    outcome = ""
    story.now += 1
    match event:
        case "acquire, seats are free" | "acquire by the same holder":
            outcome = "same id, new deadline" if story.acquire() == old_id else "new id"
        case "acquire, no seats are free":
            story.fill()
            outcome = refused(story.acquire)
        case "acquire, refused":
            story.fill()
            refused(lambda: story.acquire(seats=2))
            outcome = "as it was"
            assert (story.lease.seats, story.lease.deadline) == (1, old_deadline)
        case "confirm" | "confirm, seats are free" if story.state != "none":
            story.confirm()
            outcome = "same id, new deadline"
            assert (story.lease.id, story.lease.deadline) == (old_id, story.now + TTL)
        case "confirm":
            outcome = refused(story.confirm)
        case "confirm, no seats are free":
            story.fill()
            outcome = refused(story.confirm)
        case "confirm, seats withdrawn":
            story.ledger.set_pools({"kso.scan": (0, ())})
            outcome = refused(story.confirm)
            assert story.lease.deadline == old_deadline
        case "release":
            story.release()
            outcome = f"released {str(story.released).lower()}"
        case "its connection ends, keep":
            assert story.ledger.decide_goodbye(story.session) == []
            outcome = "as it was"
        case "its connection ends, release":
            story.acquire(on_close=RELEASE)
            for ended in story.ledger.decide_goodbye(story.session):
                story.apply(ended)
        case "its deadline passes":
            story.pass_deadline()
        case "one more ttl passes":
            story.now += TTL
        case "licd restarts" if story.state == "held":
            story.start(story.events)
            outcome = "same id, full ttl"
            assert (story.lease.id, story.lease.deadline) == (old_id, story.now + TTL)
        case "licd restarts":
            story.start(story.events)
            known = story.state
            story.start(story.events[:-1])
            return f"{known}, or {story.state} again"
        case "machine restarts, keep":
            story.start(story.events, same_boot=False)
            outcome = f"same id, at most {story.lease.deadline - story.now:g} s"
            assert story.lease.id == old_id
        case "machine restarts, release":
            story.acquire(on_close=RELEASE)
            story.start(story.events, same_boot=False)
        case _:
            raise AssertionError(f"nobody plays what happens here: {event}")
    return f"{story.state}: {outcome}" if outcome else story.state


TABLE = [
    [cell.strip() for cell in line.removeprefix(".It ").replace("Er ", "").split(" Ta ")]
    for line in section(section(source("licd-rpc.7"), "SEATS"), "The life of a lease")
    if line.startswith((".It none", ".It held", ".It expired"))
]


@pytest.mark.parametrize(("state", "event", "then"), TABLE)
def test_a_row_in_the_life_of_a_lease_is_what_the_rules_do(state: str, event: str, then: str) -> None:
    assert what_happens(in_state(state), event) == then

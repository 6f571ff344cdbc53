"""When a license file is renewed, how failures are retried, when its licenses stop: values in, values out."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from licd.license import schedule
from licd.license.dates import DAY_S, FOREVER
from licd.license.lines import Renewal
from licd.license.schedule import Plan, Progress, failed, plan, refused, share

HOUR_S = 3600
BASIS = 1_780_000_000.0
NONE = Renewal("none", None, None)
OPTIONAL = Renewal("optional", 30, 14)
REQUIRED = Renewal("required", 30, 14)
FRESH = Progress()
RAN = 5_000_000.0  # the device has run for two months


def at(days: float, renewals: Collection[Renewal] = (REQUIRED,), progress: Progress = FRESH, **options: Any) -> Plan:
    """The plan so many days after the newest signed document, of the device that asks first of all."""
    return plan(renewals, BASIS, progress, **{"share": 0.0, "trusted": BASIS + days * DAY_S, "ran_s": RAN, **options})


# --- when it is due ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "where", "due"), [(30, 0.0, 30), (30, 0.5, 35), (30, 0.9999, 39.999), (1, 0.0, 1), (3650, 0.3, 4015)]
)
def test_it_is_due_after_its_days_and_a_third_at_most(every: int, where: float, due: float) -> None:
    found = at(0, [Renewal("optional", every, 0)], share=where)
    assert found.due == pytest.approx(BASIS + due * DAY_S)
    assert (found.next, found.why, found.is_due) == (found.due, "not_due", False)


def test_it_is_due_at_that_moment_and_not_before() -> None:
    before, then = at(30, trusted=BASIS + 30 * DAY_S - 1), at(30)
    assert (before.is_due, before.why, before.progress) == (False, "not_due", Progress())
    assert (then.is_due, then.why, then.progress) == (True, "due", Progress({30: RAN}))


@pytest.mark.parametrize("renewals", [[], [NONE]])
def test_what_needs_no_renewal_is_never_due(renewals: list[Renewal]) -> None:
    for is_refused in (False, True):
        found = at(10_000, renewals, refused=is_refused)
        assert found == Plan("none", None, None, "never", False, Progress(), {})


def test_the_strictest_need_and_the_first_due_date_are_the_files() -> None:
    found = at(0, [Renewal("required", 90, 1), NONE, OPTIONAL])
    assert (found.need, found.due) == ("required", BASIS + 30 * DAY_S)
    assert at(0, [NONE, OPTIONAL]).need == "optional"


def test_what_is_optional_never_stops() -> None:
    assert at(10_000, [OPTIONAL, NONE]).stops == {}
    assert list(at(10_000, [OPTIONAL, REQUIRED]).stops) == [REQUIRED]


def test_each_interval_becomes_due_on_its_own() -> None:
    renewals = [REQUIRED, Renewal("required", 60, 0), Renewal("optional", 90, 0)]
    one = at(30, renewals)
    assert one.progress.due == {30: RAN}
    two = at(60, renewals, one.progress, ran_s=RAN + 30 * DAY_S)
    assert two.progress.due == {30: RAN, 60: RAN + 30 * DAY_S}
    assert at(61, renewals, two.progress, ran_s=RAN + 31 * DAY_S).progress == two.progress


def test_a_newer_signed_document_makes_what_was_due_not_due() -> None:
    late = at(45, progress=Progress({30: RAN}))
    assert late.is_due
    renewed = plan(
        [REQUIRED], BASIS + 45 * DAY_S, Progress({30: RAN}), share=0.0, trusted=BASIS + 45 * DAY_S, ran_s=RAN
    )
    assert (renewed.is_due, renewed.progress.due) == (False, {})


# --- a failure, and what comes after ----------------------------------------------------------------------------


def test_after_a_failure_it_is_tried_again_no_sooner_than_the_backoff_says() -> None:
    found = at(30, progress=Progress({30: RAN}, 1, BASIS + 30 * DAY_S + 2 * HOUR_S))
    assert (found.why, found.is_due, found.next) == ("failed", False, BASIS + 30 * DAY_S + 2 * HOUR_S)
    later = at(30 + 2 / 24, progress=found.progress)
    assert (later.why, later.is_due) == ("failed", True)


def test_a_failure_before_it_was_due_does_not_make_it_due_earlier() -> None:
    found = at(10, progress=Progress({}, 1, BASIS + 10 * DAY_S + 2 * HOUR_S))
    assert (found.why, found.is_due, found.next) == ("not_due", False, found.due)


def test_a_retry_further_ahead_than_15_days_counts_for_nothing_for_then_the_clock_was_lowered() -> None:
    trusted = BASIS + 31 * DAY_S
    near = at(31, progress=Progress({30: RAN}, 3, trusted + 15 * DAY_S))
    assert (near.is_due, near.next) == (False, trusted + 15 * DAY_S)
    far = at(31, progress=Progress({30: RAN}, 3, trusted + 15 * DAY_S + 1))
    assert (far.is_due, far.why, far.progress.retry_at) == (True, "failed", -math.inf)


def test_the_backoff_grows_from_two_hours_to_a_day() -> None:
    progress = Progress()
    waits = []
    for _ in range(8):
        progress = failed(progress, share=0.3, trusted=BASIS, stop=FOREVER, retry_after_s=None)
        waits.append((progress.retry_at - BASIS) / HOUR_S)
    assert waits[0] == 2
    for wait, most in zip(waits, (2, 4, 8, 16, 24, 24, 24, 24), strict=True):
        assert max(2, most * 3 / 4) <= wait <= most
    assert progress.failures == 8


@pytest.mark.parametrize(
    ("stop_days", "retry_after_s", "wait_s"),
    [
        (None, None, 2 * HOUR_S), (None, 0, 2 * HOUR_S), (None, -5, 2 * HOUR_S), (None, 60, 2 * HOUR_S),
        (None, 5 * HOUR_S, 5 * HOUR_S), (None, 14 * DAY_S, 14 * DAY_S), (None, 15 * DAY_S, 14 * DAY_S),
        (None, 10**30, 14 * DAY_S), (10, 10**9, 5 * DAY_S), (100, 10**9, 14 * DAY_S), (1, 10**9, 12 * HOUR_S),
        (0.1, 10**9, 2 * HOUR_S), (0, 10**9, 2 * HOUR_S), (-3, 10**9, 2 * HOUR_S),
    ],
)  # fmt: skip
def test_a_servers_retry_after_is_heeded_within_bounds(
    stop_days: float | None, retry_after_s: int | None, wait_s: float
) -> None:
    stop = FOREVER if stop_days is None else BASIS + stop_days * DAY_S
    found = failed(Progress({30: 1.0}), share=0.3, trusted=BASIS, stop=stop, retry_after_s=retry_after_s)
    assert found.due == {30: 1.0}
    assert found.retry_at - BASIS == pytest.approx(wait_s)


def test_after_a_refusal_it_is_asked_again_in_about_a_day_though_it_was_not_due() -> None:
    asked = BASIS + 5 * DAY_S
    progress = refused(Progress({}, 4, 0.0), share=0.3, trusted=asked)
    assert progress.failures == 0
    assert 18 * HOUR_S <= progress.retry_at - asked <= 24 * HOUR_S
    found = at(5, progress=progress, refused=True)
    assert (found.why, found.is_due, found.next) == ("refused", False, progress.retry_at)
    assert at(6, progress=progress, refused=True).is_due


# --- until when a license waits ---------------------------------------------------------------------------------


def test_a_required_license_stops_after_its_grace_and_is_warned_of_from_half_of_it_on() -> None:
    before, after = at(0), at(31, progress=Progress({30: RAN}), ran_s=RAN + DAY_S)
    assert before.stops == after.stops == {REQUIRED: (BASIS + 37 * DAY_S, BASIS + 44 * DAY_S)}


@pytest.mark.parametrize("grace_days", [0, 1, 2, 3])
def test_a_short_grace_still_is_72_hours_of_running(grace_days: int) -> None:
    short = Renewal("required", 30, grace_days)
    assert at(0, [short]).stops[short] == (BASIS + 31.5 * DAY_S, BASIS + 33 * DAY_S)
    # Each day it is switched on for 12 hours: on the sixth day they are over.
    progress = at(30, [short]).progress
    for day in range(1, 6):
        assert (
            at(30 + day, [short], progress, ran_s=RAN + day * 12 * HOUR_S).stops[short][1] > BASIS + (30 + day) * DAY_S
        )
    assert at(36, [short], progress, ran_s=RAN + 72 * HOUR_S).stops[short][1] == BASIS + 36 * DAY_S


def test_a_device_that_was_off_for_months_is_due_at_once_and_has_72_hours_of_running() -> None:
    found = at(200)
    assert (found.is_due, found.why, found.next) == (True, "due", BASIS + 30 * DAY_S)
    assert found.stops[REQUIRED][1] == BASIS + 203 * DAY_S
    assert found.stops[REQUIRED][0] <= BASIS + 200 * DAY_S  # warned of from the start
    off_again = at(300, progress=found.progress, ran_s=RAN + 71 * HOUR_S)
    assert off_again.stops[REQUIRED][1] == BASIS + 300 * DAY_S + HOUR_S


def test_what_has_stopped_stays_stopped_and_while_it_runs_at_one_moment() -> None:
    progress = at(200).progress
    stops = {at(203 + days, progress=progress, ran_s=RAN + (3 + days) * DAY_S).stops[REQUIRED][1] for days in range(9)}
    assert stops == {BASIS + 203 * DAY_S}
    off = at(250, progress=progress, ran_s=RAN + 4 * DAY_S)
    assert off.stops[REQUIRED][1] < BASIS + 250 * DAY_S


def test_running_time_that_was_lost_counts_from_now_and_not_for_ever() -> None:
    found = at(60, progress=Progress({30: RAN}), ran_s=10.0)
    assert found.progress.due == {30: 10.0}
    assert found.stops[REQUIRED][1] == BASIS + 63 * DAY_S
    assert at(63, progress=found.progress, ran_s=10.0 + 3 * DAY_S).stops[REQUIRED][1] == BASIS + 63 * DAY_S


# --- properties -------------------------------------------------------------------------------------------------

_renewals = st.lists(
    st.builds(Renewal, st.sampled_from(["optional", "required"]), st.integers(1, 400), st.integers(0, 60))
    | st.just(NONE),
    max_size=5,
    unique=True,
)
_shares = st.floats(0, 1, exclude_max=True)
_progress = st.builds(
    Progress,
    st.dictionaries(st.integers(1, 400), st.floats(0, 2 * RAN), max_size=4),
    st.integers(0, 10**9),
    st.floats(BASIS - 400 * DAY_S, BASIS + 1500 * DAY_S) | st.just(-math.inf),
)
_days = st.floats(-100, 1000)


@given(_renewals, _progress, _days, st.floats(0, 2 * RAN), st.data())
def test_any_plan_makes_sense(
    renewals: list[Renewal], progress: Progress, days: float, ran_s: float, data: st.DataObject
) -> None:
    where, is_refused = data.draw(_shares), data.draw(st.booleans())
    trusted = BASIS + days * DAY_S
    found = at(days, renewals, progress, share=where, ran_s=ran_s, refused=is_refused)
    assert found.is_due == (found.next is not None and found.next <= trusted)
    assert (found.due is None) == (found.next is None) == (found.need == "none") == (found.why == "never")
    if found.next is not None and found.due is not None:
        assert found.next >= found.progress.retry_at
        assert is_refused or found.next >= found.due
        assert not found.is_due or is_refused or found.why in ("due", "failed")
        assert found.next <= max(found.due, trusted + 15 * DAY_S)
    assert found.progress.due.keys() <= {each.every_days for each in renewals}
    assert all(became <= ran_s for became in found.progress.due.values())
    assert found.stops.keys() == {each for each in renewals if each.need == "required"}
    again = at(days, renewals, found.progress, share=where, ran_s=ran_s, refused=is_refused)
    assert again == found  # recorded once, it need not be recorded again
    for each, (warns, stops) in found.stops.items():
        assert each.every_days is not None
        assert each.grace_days is not None
        attempt = BASIS + each.every_days * DAY_S
        assert attempt <= warns <= stops
        assert stops >= attempt + each.grace_days * DAY_S
        latest = attempt + each.every_days * DAY_S / 3 + max(each.grace_days, 3) * DAY_S
        assert stops <= max(latest, trusted + 3 * DAY_S) + 1e-3


@given(
    _shares,
    st.integers(1, 60),
    st.integers(0, 20),
    st.lists(st.tuples(st.floats(0.01, 5), st.floats(0, 40)), min_size=1, max_size=60),
    st.floats(0, 90),
)
def test_a_required_license_never_stops_before_its_grace_and_72_hours_of_running_are_over(
    where: float, every: int, grace: int, periods: list[tuple[float, float]], first_off: float
) -> None:
    # A device that is switched on and off as it likes, and asks for the plan when it starts and each 6 hours.
    renewal = Renewal("required", every, grace)
    now, ran, progress = first_off * DAY_S, 0.0, Progress()
    ran_since_due: float | None = None
    stopped = False
    for on, off in periods:
        end = now + on * DAY_S
        while True:
            found = plan([renewal], BASIS, progress, share=where, trusted=BASIS + now, ran_s=ran)
            progress = found.progress
            assert found.due is not None
            if BASIS + now >= found.due and ran_since_due is None:
                ran_since_due = ran
            was, stopped = stopped, BASIS + now >= found.stops[renewal][1]
            assert stopped or not was
            over = ran_since_due is not None and ran - ran_since_due > schedule.RUNNING_S - 1
            if stopped:
                assert over
                assert BASIS + now >= found.due + grace * DAY_S
            elif ran_since_due is not None and ran - ran_since_due > schedule.RUNNING_S + 1:
                assert BASIS + now < found.due + grace * DAY_S  # then it does stop
            if now >= end:
                break
            step = min(end - now, DAY_S / 4)
            now, ran = now + step, ran + step
        now += off * DAY_S


@given(_shares, st.integers(0, 10**9), st.floats(BASIS, BASIS + 10**8), st.none() | st.integers(-10, 10**12), st.data())
def test_a_failure_is_retried_after_two_hours_to_a_day_or_as_long_as_the_server_may_ask(
    where: float, failures: int, trusted: float, retry_after_s: int | None, data: st.DataObject
) -> None:
    stop = data.draw(st.just(FOREVER) | st.floats(trusted - DAY_S, trusted + 100 * DAY_S))
    found = failed(Progress({}, failures), share=where, trusted=trusted, stop=stop, retry_after_s=retry_after_s)
    plain = failed(Progress({}, failures), share=where, trusted=trusted, stop=stop, retry_after_s=None)
    assert found.failures == failures + 1
    backoff, wait = plain.retry_at - trusted, found.retry_at - trusted
    assert 2 * HOUR_S - 1e-3 <= backoff <= 24 * HOUR_S + 1e-3
    assert backoff - 1e-3 <= wait <= 14 * DAY_S + 1e-3
    if stop != FOREVER:
        assert wait <= max(backoff, (stop - trusted) / 2) + 1e-3
    if retry_after_s is not None:
        assert wait <= max(backoff, retry_after_s) + 1e-3


@given(_shares, _shares, st.integers(1, 20))
def test_two_devices_that_failed_together_do_not_come_again_together(one: float, other: float, failures: int) -> None:
    assume(one != other)
    waits = {
        failed(Progress({}, failures), share=each, trusted=0.0, stop=FOREVER, retry_after_s=None).retry_at
        for each in (one, other)
    }
    assert len(waits) == 2


# --- the jitter -------------------------------------------------------------------------------------------------


def test_the_share_of_a_device_is_the_same_always() -> None:
    # Of every version of licd: with another, all devices would be due on other days after an upgrade.
    assert share("A" * 43, "acme") == pytest.approx(0.320906084)
    assert share("A" * 43, "acme") != share("A" * 43, "other")
    assert share("A" * 43, "acme") != share("B" * 43, "acme")


def test_the_shares_of_many_devices_spread_evenly() -> None:
    devices = 20_000
    shares = sorted(share(f"device {n}", "acme") for n in range(devices))
    assert shares[0] >= 0
    assert shares[-1] < 1
    # Kolmogorov-Smirnov: by chance, once in a million keys.
    assert max(abs(each - n / devices) for n, each in enumerate(shares)) < 2.7 / math.sqrt(devices)


def test_devices_installed_on_one_day_are_due_on_each_of_the_days_30_to_40_alike() -> None:
    days = [0] * 10
    for n in range(10_000):
        due = at(0, share=share(f"device {n}", "acme")).due
        assert due is not None
        days[math.floor((due - BASIS) / DAY_S) - 30] += 1
    assert all(850 <= each <= 1150 for each in days)

"""What a start makes of the journal it finds: whole, torn, damaged, or left in the middle of an exchange."""

from __future__ import annotations

import base64
import os
import shutil
from pathlib import Path

import pytest

from licd.seats import frames
from licd.seats.compaction import COPY_LEASES
from licd.seats.events import (
    RELEASE,
    Accepted,
    Acquired,
    Recognized,
    Renewing,
    Started,
    Stopped,
    Used,
    encode,
    pack,
)
from licd.seats.framefile import GROW_BYTES
from licd.seats.journal import MAX_KEPT_ASIDE, MIN_BYTES
from licd.seats.replay import Replay, replay
from tests.support.desk import Shop, generation, on_record, recorded, replayed, sizes

# --- a start ---------------------------------------------------------------------------------------------------


def test_a_start_brings_back_leases_and_license_files_as_they_were(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    lease = shop.acquire("till-1", seats=2, ttl=90, version="5.1")
    shop.acquire("касса 2", on_close=RELEASE)
    shop.acquire("till-1", seats=3, ttl=90, version="5.1")
    shop.desk.record(Accepted("vendor", 7, "digest"))
    shop.desk.record(Recognized("vendor", "digest", "boot-1", 1800000000.5, 3.0))
    shop.desk.record(Renewing("other", "digest"))
    renewing = Renewing(
        "vendor", "digest", {30: 5e6, 90: 7e6}, 3, 1.8e9, 1.7e9, "UNAVAILABLE", None, None, "2027-01-02"
    )
    shop.desk.record(renewing._replace(failures=2))
    shop.desk.record(renewing)
    for peaks in ({"kso.tills": 3}, {"kso.scales": 1}, {"kso.tills": 2}):
        shop.desk.record(Used("2027-01-15", peaks), sync=False)
    shop.commit()
    before = recorded(shop.ledger)
    shop.journal.close()
    again = Shop(tmp_path)
    assert recorded(again.ledger) == before
    assert again.ledger.leases[lease.id].seats == 3
    assert again.ledger.accepted == {"vendor": Accepted("vendor", 7, "digest")}
    assert again.ledger.recognized == {"vendor": Recognized("vendor", "digest", "boot-1", 1800000000.5, 3.0)}
    assert again.ledger.renewing == {"vendor": renewing, "other": Renewing("other", "digest")}
    assert list(again.ledger.usage.events()) == [Used("2027-01-15", {"kso.tills": 3, "kso.scales": 1})]


def test_a_start_writes_what_it_replayed_into_a_new_file_of_a_new_generation(tmp_path: Path) -> None:
    """After a failed sync the pages of the old file prove nothing. The old file is kept for the next time."""
    shop = Shop(tmp_path)
    shop.tend()
    shop.acquire("till-1")
    shop.commit()
    old = {name: (tmp_path / name).stat().st_ino for name in ("journal", "journal.next")}
    before = generation(tmp_path)
    Shop(tmp_path)
    assert generation(tmp_path) != before
    assert (tmp_path / "journal").stat().st_ino == old["journal.next"]
    assert (tmp_path / "journal.next").stat().st_ino == old["journal"]


def test_the_boot_is_on_record_from_the_start_and_a_clean_stop_until_the_next(tmp_path: Path) -> None:
    shop = Shop(tmp_path, boot="boot-7")
    assert replayed(list(replay(tmp_path).events)).boot_id == "boot-7"
    shop.desk.record(Stopped())
    shop.commit(mark=True)
    assert replayed(list(replay(tmp_path).events)).clean_stop
    Shop(tmp_path, boot="boot-8")
    ledger = replayed(list(replay(tmp_path).events))
    assert (ledger.boot_id, ledger.clean_stop) == ("boot-8", False)


def test_after_a_reboot_what_is_gone_is_gone_from_the_record_too(tmp_path: Path) -> None:
    shop = Shop(tmp_path, boot="boot-1")
    shop.acquire("kept")
    shop.acquire("gone", on_close=RELEASE)
    shop.commit()
    shop.journal.close()
    Shop(tmp_path, boot="boot-2").journal.close()
    assert [lease.holder for lease in Shop(tmp_path, boot="boot-2").ledger.leases.values()] == ["kept"]


def test_a_first_start_finds_nothing_and_no_problem(tmp_path: Path) -> None:
    assert replay(tmp_path) == Replay([], None, None)
    assert Shop(tmp_path).found.problem is None


def test_the_clocks_on_record_are_those_of_the_last_commit_also_while_a_copy_is_under_way(tmp_path: Path) -> None:
    """The slices of a copy are written after frames with newer clocks; the last frame's are those that count."""
    shop = Shop(tmp_path, size=GROW_BYTES)
    shop.tend()
    for n in range(3 * COPY_LEASES):
        shop.acquire(f"till-{n}" + "x" * 400)
    shop.commit()
    for ttl in range(60, 2000):
        if shop.journal.bytes_used > GROW_BYTES // 2:
            break
        shop.acquire("till-0" + "x" * 400, ttl=ttl)
        shop.commit()
    assert shop.journal.tend(), "the copy begins"
    before = generation(tmp_path)
    shop.commit(mark=True)
    shop.tend()
    assert generation(tmp_path) != before
    assert replay(tmp_path).clock == (shop.stamp, 0.0, 0.0, 0.0, shop.stamp)


# --- damage ----------------------------------------------------------------------------------------------------


def damage(folder: Path) -> None:
    """The first frame is hit; the others are intact."""
    with (folder / "journal").open("r+b") as file:
        file.seek(frames.HEADER_BYTES)
        file.write(b"\xff")


def test_a_damaged_journal_is_salvaged_and_kept_aside_and_the_next_start_is_whole(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    for n in range(3):
        shop.acquire(f"till-{n}")
        shop.commit()
    shop.journal.close()
    damage(tmp_path)
    hit = (tmp_path / "journal").read_bytes()
    salvaged = Shop(tmp_path)
    assert salvaged.found.problem == "the journal was damaged; 3 intact frames were salvaged"
    assert recorded(salvaged.ledger) == recorded(shop.ledger)
    assert (tmp_path / "journal.damaged-1").read_bytes() == hit
    salvaged.journal.close()
    assert Shop(tmp_path).found.problem is None


def test_at_most_three_damaged_journals_are_kept_the_newest(tmp_path: Path) -> None:
    for _ in range(MAX_KEPT_ASIDE + 9):
        shop = Shop(tmp_path)
        shop.acquire("till-1")
        shop.commit()
        shop.journal.close()
        damage(tmp_path)
    assert sorted(path.name for path in tmp_path.glob("journal.damaged*")) == [
        "journal.damaged-10",
        "journal.damaged-11",
        "journal.damaged-9",
    ]


def test_a_torn_tail_is_dropped_without_a_word_and_nothing_is_kept_aside(tmp_path: Path) -> None:
    shop = Shop(tmp_path)
    shop.acquire("till-1")
    shop.commit()
    acknowledged = recorded(shop.ledger)
    end = shop.journal.bytes_used
    shop.acquire("till-2")
    shop.commit()
    shop.journal.close()
    with (tmp_path / "journal").open("r+b") as file:
        file.seek(end + 40)
        file.write(bytes(100))
    again = Shop(tmp_path)
    assert again.found.problem is None
    assert recorded(again.ledger) == acknowledged
    assert not list(tmp_path.glob("journal.damaged*"))


@pytest.mark.parametrize("content", [b"", bytes(MIN_BYTES), b"\xc1LJ1 or not" * 500], ids=["empty", "zeros", "other"])
def test_a_journal_that_is_none_stops_no_start_and_is_kept_aside(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "journal").write_bytes(content)
    shop = Shop(tmp_path)
    assert shop.found.problem == "the journal was damaged; 0 intact frames were salvaged"
    assert (tmp_path / "journal.damaged-1").read_bytes() == content
    shop.acquire("till-1")
    shop.commit()
    assert on_record(tmp_path) == recorded(shop.ledger)


@pytest.mark.parametrize("unknown", [[99, "from a newer licd"], [1, "too short"], "no record", 7])
def test_records_of_an_unknown_kind_are_told_of_and_those_beside_them_kept(tmp_path: Path, unknown: object) -> None:
    shop = Shop(tmp_path)
    shop.acquire("till-1")
    shop.journal._staged.append(pack(unknown))
    shop.acquire("till-2")
    shop.commit()
    found = replay(tmp_path)
    assert found.problem is not None
    assert "newer licd" in found.problem
    assert recorded(replayed(list(found.events))) == recorded(shop.ledger)
    assert found.clock == (1.0, 0.0, 0.0, 0.0, 1.0)


@pytest.mark.parametrize(
    "payload", [b"", b"\xc0", b"\x93\x01", b"\xd9\x02\xff\xff", b"\x81\xa1a\x01", b"\x91\xa1x", pack((1.0,))]
)
def test_a_frame_that_holds_no_clocks_stops_no_start(tmp_path: Path, payload: bytes) -> None:
    """Its checksum is right, so only a newer licd or a mistake can have written it."""
    before = frames.build(b"8 bytes.", 0, pack((1.0, 0.0, 0.0, 0.0, 0.0)))
    behind = frames.build(b"8 bytes.", 2, pack((2.0, 0.0, 0.0, 0.0, 0.0)))
    (tmp_path / "journal").write_bytes(before + frames.build(b"8 bytes.", 1, payload) + behind)
    found = replay(tmp_path)
    assert found.problem is not None
    assert found.clock == (2.0, 0.0, 0.0, 0.0, 0.0)
    assert list(found.events) == []


@pytest.mark.parametrize("number", [float("nan"), float("inf"), 1e300, -1.0])
def test_a_time_that_no_clock_shows_is_not_taken_for_one(tmp_path: Path, number: float) -> None:
    before = frames.build(b"8 bytes.", 0, pack((1.0, 0.0, 0.0, 0.0, 0.0)))
    (tmp_path / "journal").write_bytes(before + frames.build(b"8 bytes.", 1, pack((number, 0.0, 0.0, 0.0, 0.0))))
    found = replay(tmp_path)
    assert found.clock == (1.0, 0.0, 0.0, 0.0, 0.0)
    assert found.problem is not None


def test_of_the_clocks_of_a_newer_licd_those_known_are_read_and_the_records_behind_them(tmp_path: Path) -> None:
    frame = frames.build(b"8 bytes.", 0, pack((1.0, 2.0, 3.0, 4.0, 5.0, 6.0)) + encode(Started("boot-1")))
    (tmp_path / "journal").write_bytes(frame)
    found = replay(tmp_path)
    assert (found.clock, found.events, found.problem) == ((1.0, 2.0, 3.0, 4.0, 5.0), [Started("boot-1")], None)


# Made by licd 0.1.0 before it knew of running time, usage and renewals: its clocks are four numbers.
OLD_JOURNAL = """
wUxKMcJzTwuw8AwHAAAAAAAAAAAuAAAA8tplDZTLAAAAAAAAAADLAAAAAAAAAADLAAAAAAAAAADLAAAAAAAAAACSBaZib290LTHB
TEoxwnNPC7DwDAcBAAAAAAAAANcAAABqRO1rlMtB2tJ0gGAAAMtB2tJ1FhAAAMtArCAAAAAAAMtAyBzgAAAAAJ0Bp2xlYXNlLTCp
a3NvLnRpbGxzzQPopnRpbGwtMQJapGtlZXCjNS4xAM5rSdIACsCdAadsZWFzZS0xqWtzby50aWxsc80D6KzQutCw0YHRgdCwIDIB
PKdyZWxlYXNlwAHOa0nSAArAlASkYWNtZQfZQDVkNWQ1ZDVkNWQ1ZDVkNWQ1ZDVkNWQ1ZDVkNWQ1ZDVkNWQ1ZDVkNWQ1ZDVkNWQ1
ZDVkNWQ1ZDVkNWQ1ZDVkNWTBTEoxwnNPC7DwDAcCAAAAAAAAAIoAAADgoTRRlMtB2tJ0gKAAAMtB2tJ1FhAAAMtArCAAAAAAAMtA
yBzgAAAAAJYHpGFjbWXZQDVkNWQ1ZDVkNWQ1ZDVkNWQ1ZDVkNWQ1ZDVkNWQ1ZDVkNWQ1ZDVkNWQ1ZDVkNWQ1ZDVkNWQ1ZDVkNWQ1
ZDVkNWSmYm9vdC0xwMtADAAAAAAAAJMCp2xlYXNlLTHA
"""
ACQUIRED = Acquired("lease-0", "kso.tills", 1000, "till-1", 2, 90, "keep", "5.1", 0, 1800000000, 10, None)


def test_a_journal_of_an_older_licd_is_read_as_before_and_nothing_has_run_yet(tmp_path: Path) -> None:
    (tmp_path / "journal").write_bytes(base64.b64decode(OLD_JOURNAL).ljust(MIN_BYTES, b"\0"))
    found = replay(tmp_path)
    assert found.problem is None
    assert found.clock == (1800000002.5, 1800000600.25, 3600.0, 12345.75, 0.0)
    digest = "5d" * 32
    shop = Shop(tmp_path)
    assert shop.ledger.accepted == {"acme": Accepted("acme", 7, digest)}
    assert shop.ledger.recognized == {"acme": Recognized("acme", digest, "boot-1", None, 3.5)}
    assert [lease.as_event() for lease in shop.ledger.leases.values()] == [ACQUIRED]
    assert (shop.ledger.renewing, list(shop.ledger.usage.events())) == ({}, [])
    shop.desk.record(Used("2027-01-15", {"kso.tills": 2}))
    shop.commit()
    assert on_record(tmp_path) == recorded(shop.ledger)


def test_a_file_that_only_looks_like_a_damaged_journal_stops_no_start(tmp_path: Path) -> None:
    (tmp_path / "journal.damaged-\u00b2").touch()  # a digit, but no number
    (tmp_path / "journal").write_bytes(b"damage")
    Shop(tmp_path)
    assert (tmp_path / "journal.damaged-1").read_bytes() == b"damage"


# --- names left over by a crash in the middle of an exchange -----------------------------------------------------


def leftover(folder: Path, position: str) -> object:
    """The folder as a crash at this position of an exchange left it, or, last, as nobody's crash would."""
    shop = Shop(folder)
    shop.tend()
    shop.acquire("till-1")
    shop.commit()
    shop.journal.close()
    journal, spare, third = (folder / name for name in ("journal", "journal.next", "journal.old"))
    if position == "linked":
        os.link(journal, third)
    elif position == "renamed":
        os.rename(spare, third)
    elif position == "linked, without a spare":
        spare.unlink()
        os.link(journal, third)
    elif position == "both":
        shutil.copy(spare, third)
    return recorded(shop.ledger)


@pytest.mark.parametrize("position", ["linked", "renamed", "linked, without a spare", "both"])
def test_a_start_after_a_crash_in_an_exchange_reads_the_journal_and_leaves_two_files(
    tmp_path: Path, position: str
) -> None:
    before = leftover(tmp_path, position)
    shop = Shop(tmp_path)
    assert recorded(shop.ledger) == before
    shop.tend()
    assert sizes(tmp_path) == {"journal": MIN_BYTES, "journal.next": MIN_BYTES}
    assert not (tmp_path / "journal").samefile(tmp_path / "journal.next")


def test_a_start_goes_on_where_the_journal_was_deleted_but_an_old_one_was_left(tmp_path: Path) -> None:
    leftover(tmp_path, "renamed")
    (tmp_path / "journal").unlink()
    shop = Shop(tmp_path)
    shop.acquire("till-1")
    shop.commit()
    assert on_record(tmp_path) == recorded(shop.ledger)

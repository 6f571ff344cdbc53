"""The real process on disks that fail, are full or read-only, and after a reboot."""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from licd.rpc.client import CallError, Client, TimedOut, Unreachable
from tests.support.clients import Pipeline, Program, lease_of, leases, refusal, wait_until, warnings
from tests.support.daemon import Daemon
from tests.support.mounts import fill_up, remount_read_only, small_disk
from tests.support.needs import needs_root, needs_strace
from tests.support.small_journal import FILES, SMALL, acquire, started
from tests.support.strace import injected


@pytest.fixture
def shop(folder: Path) -> Iterator[Daemon]:
    with started(folder) as daemon:
        yield daemon


# --- a disk that fails ---------------------------------------------------------------------------------------


@needs_strace
@pytest.mark.parametrize(
    "rule", ["fdatasync:error=EIO:when=1", "pwrite64:error=EIO:when=1", "pwrite64:error=ENOSPC:when=1"]
)
def test_a_failed_write_or_sync_lets_no_answer_leave_and_ends_with_74(shop: Daemon, rule: str) -> None:
    with shop.client() as client:
        kept, gone = acquire(client, "kept"), acquire(client, "gone")
    with Pipeline(shop.socket) as writer, Pipeline(shop.socket) as reader:
        writer.answer(writer.ask("server.hello"))
        reader.answer(reader.ask("server.hello"))
        with injected(shop, rule):
            shop.pause()
            asked = [
                writer.ask("seat.acquire", license="kso.camera", holder="new"),
                writer.ask("seat.release", lease=gone),
            ]
            seen = reader.ask("seat.list")  # could tell of a lease that is on no medium
            shop.resume()
            writer.drain()
            reader.drain()
            assert shop.process is not None
            assert shop.process.wait(5) == 74
    assert not writer.answers.keys() & set(asked)
    assert seen not in reader.answers
    assert "nothing unsynced was acknowledged" in shop.log
    shop.start()
    assert kept in leases(shop)
    acquire(shop, "new")


@needs_strace
def test_no_answer_leaves_before_the_sync_has_returned(shop: Daemon) -> None:
    with Pipeline(shop.socket) as writer, Pipeline(shop.socket) as reader:
        writer.answer(writer.ask("server.hello"))
        reader.answer(reader.ask("server.hello"))
        with injected(shop, "fdatasync:delay_exit=400000:when=1"):
            shop.pause()
            asked = writer.ask("seat.acquire", license="kso.camera", holder="a")
            time.sleep(0.05)
            seen = reader.ask("seat.list")
            began = time.monotonic()
            shop.resume()
            (row,) = reader.answer(seen)["leases"]
            assert time.monotonic() - began > 0.35  # even a read waits, if it could have seen the lease
            assert writer.answer(asked)["lease"] == row["lease"]


def acquired_until_full(client: Client) -> list[str]:
    held: list[str] = []
    while len(held) < 5000:
        try:
            held.append(acquire(client, f"till-{len(held)}", ttl=600))
        except CallError as error:
            if error.name != "STORAGE_FULL":
                raise
            return held
    raise AssertionError("the disk was never full")


@needs_root
def test_a_full_disk_refuses_new_seats_by_name_and_goes_on_with_the_others(folder: Path) -> None:
    (folder / "state").mkdir()
    with small_disk(folder / "state", "1m"), started(folder) as shop, shop.client() as client:
        wait_until(lambda: (shop.state / "journal.next").stat().st_size == SMALL, "the spare file")
        fill_up(shop.state)
        held = acquired_until_full(client)
        assert len(held) > 300
        for lease in held[::7]:
            client.call("seat.confirm", lease=lease)
        released = held[: len(held) // 2]
        for lease in released:
            assert client.call("seat.release", lease=lease) == {"released": True}
        kept = set(held) - set(released)
        again = acquire(client, "again")  # the space of the released ones is found again without the disk
        assert refusal(client, "license.import", document=FILES[2]).name == "STORAGE_FULL"
        assert client.call("license.list")["licenses"][1]["total"] == 4
        shop.restart()  # needs no new space either
        assert leases(shop).keys() == kept | {again}
        for lease in kept:
            assert client.call("seat.release", lease=lease) == {"released": True}
        (shop.state / "filling").unlink()
        client.call("license.import", document=FILES[2])
        for n in range(500):
            acquire(client, f"later-{n}")
        shop.restart()
        assert len(leases(shop)) == 501


@needs_root
def test_every_lease_can_be_released_on_a_full_disk_even_if_none_is_ever_compacted(folder: Path) -> None:
    (folder / "state").mkdir()
    with small_disk(folder / "state", "300k"), started(folder) as shop, shop.client() as client:
        fill_up(shop.state)  # there is no room for a second file
        held = acquired_until_full(client)
        assert len(held) > 100
        for lease in held:
            assert client.call("seat.release", lease=lease) == {"released": True}
        assert shop.poll() is None


@needs_root
def test_state_that_cannot_be_written_serves_what_is_held_and_grants_nothing_new(folder: Path) -> None:
    (folder / "state").mkdir()
    with small_disk(folder / "state", "4m"), started(folder) as shop:
        kept, other = acquire(shop, "a", "kso.scales", ttl=50), acquire(shop, "b", "kso.scales")
        shop.kill()
        remount_read_only(shop.state)
        shop.start()
        with shop.client() as client:
            status = client.call("server.status")
            assert status["health"] == "warning"
            assert any("cannot be written" in text for text in status["warnings"])
            assert status["journal"]["writable"] is False
            assert lease_of(client, kept)["expires_s"] >= 48
            assert client.call("seat.confirm", lease=kept)["lease"] == kept
            assert acquire(client, "a", "kso.scales", ttl=50) == kept  # nothing new
            assert refusal(client, "seat.acquire", license="kso.scales", holder="c").name == "STATE_NOT_WRITABLE"
            assert refusal(client, "license.import", document=FILES[2]).name == "STATE_NOT_WRITABLE"
            assert client.call("license.import", document=FILES[2], dry_run=True)["dry_run"] is True
            assert client.call("license.check", license="kso.scales")["valid"] is True
            assert client.call("seat.release", lease=other) == {"released": True}
            assert leases(shop).keys() == {kept}
        assert shop.stop() == 0
        subprocess.run(["mount", "-o", "remount,rw", str(shop.state)], check=True)
        shop.start()
        assert leases(shop).keys() >= {kept}
        acquire(shop, "c", "kso.scales")
        assert warnings(shop) == ""


# --- another boot, another process ---------------------------------------------------------------------------


def in_boot(boot_id: Path, uptime_s: int) -> tuple[str, ...]:
    """The command before licd that lets it see another boot: its id, and a CLOCK_BOOTTIME of its own."""
    bind = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'
    clocks = ("unshare", "--time", "--boottime", str(uptime_s), "--monotonic", str(uptime_s))
    return ("unshare", "--mount", "sh", "-c", bind, str(boot_id), *clocks)


@needs_root
@pytest.mark.parametrize("uptime_s", [0, 10_000_000])
def test_after_a_reboot_bound_leases_are_gone_and_kept_ones_have_two_minutes(folder: Path, uptime_s: int) -> None:
    boot = folder / "boot_id"
    boot.write_text("11111111-2222-3333-4444-555555555555\n")
    with started(folder) as shop, Program(shop.socket) as till:
        bound = acquire(till, "bound", on_close="release")
        long, short = acquire(till, "long", ttl=3000), acquire(till, "short", ttl=30)
        shop.kill()
        shop.wrap = in_boot(boot, uptime_s)
        shop.start()
        assert leases(shop).keys() == {long, short}
        assert 118 <= lease_of(shop, long)["expires_s"] <= 120
        assert 28 <= lease_of(shop, short)["expires_s"] <= 30
        shop.call("seat.confirm", lease=long)
        assert lease_of(shop, long)["expires_s"] > 2900
        shop.restart()  # in the same new boot
        assert lease_of(shop, long)["expires_s"] > 2900
        assert bound not in leases(shop)


@needs_root
def test_a_boot_id_that_cannot_be_read_counts_as_the_same_boot(folder: Path) -> None:
    boot = folder / "boot_id"
    boot.write_text("")
    with started(folder) as shop, Program(shop.socket) as till:
        bound, long = acquire(till, "bound", on_close="release"), acquire(till, "long", ttl=3000)
        shop.kill()
        shop.wrap = in_boot(boot, 0)
        shop.start()
        assert leases(shop).keys() == {bound, long}
        assert lease_of(shop, long)["expires_s"] > 2900


def test_a_second_licd_waits_for_the_first_to_leave_the_state_folder(shop: Daemon, tmp_path: Path) -> None:
    lease = acquire(shop, "a")
    with tempfile.TemporaryDirectory(prefix="licd-") as name, Daemon(Path(name)) as second:
        second.configure(state=shop.state, vendors=shop.vendors, journal_size=SMALL)
        second.start(wait=False)
        second.wait_for(f"waiting for pid {shop.pid}")
        with pytest.raises((Unreachable, TimedOut)):
            second.client(timeout_s=0.3).call("server.hello")
        acquire(shop, "b")
        assert shop.stop() == 0
        second.wait_for("READY=1")
        assert second.call("seat.confirm", lease=lease)["lease"] == lease
        assert len(leases(second)) == 2

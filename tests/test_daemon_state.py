"""What licd promises about its state, on the real process: nothing acknowledged is lost, and nothing stops the shop."""

from __future__ import annotations

import contextlib
import random
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgpack
import pytest

from tests.support.clients import Pipeline, leases, refusal, wait_until, warnings
from tests.support.daemon import Daemon
from tests.support.small_journal import FILES, OTHER, SMALL, acquire, started


@pytest.fixture
def shop(folder: Path) -> Iterator[Daemon]:
    with started(folder) as daemon:
        yield daemon


# --- nothing acknowledged is lost ----------------------------------------------------------------------------


class Load:
    """Acquires and releases in flight, as fast as licd takes them. Each holder is used once."""

    def __init__(self, daemon: Daemon, prefix: str) -> None:
        self._pipe = Pipeline(daemon.socket)
        self._prefix = prefix
        self.acquired: dict[str, int] = {}  # holder: msgid
        self.released: dict[str, int] = {}
        self.stop = False
        self._sender = threading.Thread(target=self._send)
        self._reader = threading.Thread(target=self._pipe.drain)
        self._sender.start()
        self._reader.start()

    def _send(self) -> None:
        n = 0
        with contextlib.suppress(OSError):
            while not self.stop:
                holder = f"{self._prefix}-{n}"
                self.acquired[holder] = self._pipe._msgid + 1
                self._pipe.ask("seat.acquire", license="kso.camera", holder=holder, ttl=600)
                if n % 8:  # most are released, so that a small journal has something to compact
                    self.released[holder] = self._pipe._msgid + 1
                    self._pipe.ask("seat.release", license="kso.camera", holder=holder)
                n += 1
                if n % 32 == 0:
                    time.sleep(0.001)  # so that licd takes many turns

    def end(self) -> None:
        """licd has gone: all that it acknowledged has been read."""
        self.stop = True
        self._sender.join()
        self._reader.join()
        self._pipe.close()

    def check(self, held: dict[str, str]) -> int:
        """How many acknowledged acquires there were; all that was acknowledged is so in `held`."""
        ids = {holder: lease for lease, holder in held.items()}
        count = 0
        for holder, msgid in self.acquired.items():
            answer = self._pipe.answers.get(msgid)
            release = self.released.get(holder)
            if release in self._pipe.answers:
                assert holder not in ids, f"the acknowledged release of {holder} is lost"
            elif answer is not None:
                assert answer.error is None, answer
                count += 1
                if release is None:
                    assert ids.get(holder) == answer.result["lease"], f"the acknowledged lease of {holder} is lost"
                else:
                    assert ids.get(holder) in (answer.result["lease"], None)
        return count


def compaction_of(daemon: Daemon) -> Callable[[], bool]:
    """Whether the journal has been compacted since: it is another file then."""
    path = daemon.state / "journal"
    before = path.stat().st_ino
    return lambda: path.stat().st_ino != before


@pytest.mark.parametrize("size", [SMALL, 8 * 1024 * 1024])
def test_kill_9_under_load_loses_nothing_acknowledged(folder: Path, size: int) -> None:
    chance = random.Random(size)
    acknowledged = 0
    with started(folder, journal_size=size) as shop:
        loads: list[Load] = []
        for number in range(6):
            load = Load(shop, f"round{number}")
            if size == SMALL:
                wait_until(compaction_of(shop), "a compaction")
            time.sleep(chance.uniform(0.02, 0.3))
            shop.kill()
            load.end()
            loads.append(load)
            shop.start()
            held = leases(shop)
            assert len(set(held.values())) == len(held)
            for earlier in loads:
                acknowledged += earlier.check(held)
    assert acknowledged > 300


def test_a_stop_under_load_loses_nothing_acknowledged(folder: Path) -> None:
    with started(folder) as shop:
        for number in range(3):
            load = Load(shop, f"round{number}")
            time.sleep(0.1)
            assert shop.stop() == 0
            load.end()
            shop.start()
            assert load.check(leases(shop)) > 10


def test_a_stop_and_a_start_change_no_lease(shop: Daemon) -> None:
    acquire(shop, "a", seats=2, ttl=77, version="5.1", on_close="keep")
    acquire(shop, "b", "kso.scales", seats=2)
    before = shop.call("seat.list")["leases"]
    assert shop.stop() == 0
    shop.start()
    after = shop.call("seat.list")["leases"]
    moving = ("confirmed_s", "expires_s")
    assert [{k: v for k, v in row.items() if k not in moving} for row in after] == [
        {k: v for k, v in row.items() if k not in moving} for row in before
    ]


# --- a journal that was damaged ------------------------------------------------------------------------------


def intact_frames(data: bytes) -> list[tuple[int, int, bytes]]:
    """Begin, sequence and payload of each frame, read without licd: magic, generation, sequence, length, CRC-32."""
    found = []
    for begin in range(len(data) - 28):
        if data[begin : begin + 4] != b"\xc1LJ1":
            continue
        sequence, length, crc = struct.unpack_from("<QII", data, begin + 12)
        payload = data[begin + 28 : begin + 28 + length]
        if len(payload) == length and zlib.crc32(data[begin : begin + 24] + payload) == crc:
            found.append((begin, sequence, payload))
    return found


def leases_in(data: bytes) -> set[str]:
    """The leases that the intact frames leave, read without licd."""
    live: dict[str, tuple[Any, ...]] = {}
    for _, _, payload in sorted(intact_frames(data), key=lambda frame: frame[1]):
        unpacker = msgpack.Unpacker(raw=False)
        unpacker.feed(payload)
        for kind, *record in list(unpacker)[1:]:
            if kind == 1:  # acquired
                lease, license, uid, holder = record[:4]
                for old in [old for old, name in live.items() if name == (license, uid, holder)]:
                    del live[old]
                live[lease] = (license, uid, holder)
            elif kind in (2, 3):  # released, expired
                live.pop(record[0], None)
    return set(live)


@pytest.fixture
def victim(folder: Path) -> Iterator[tuple[Daemon, bytes]]:
    """A licd that was killed, and its journal of some ten frames."""
    with started(folder) as daemon:
        with daemon.client() as client:
            for holder in ("a", "b", "c", "d"):
                acquire(client, holder)
            client.call("seat.release", license="kso.camera", holder="b")
            acquire(client, "a", ttl=33)
            client.call("seat.release", license="kso.camera", holder="c")
            acquire(client, "c")
        daemon.kill()
        data = (daemon.state / "journal").read_bytes()
        assert len(intact_frames(data)) > 8
        assert len(leases_in(data)) == 3
        yield daemon, data


def start_with(daemon: Daemon, journal: bytes) -> None:
    daemon.kill()
    for path in daemon.state.glob("journal*"):
        path.unlink()
    (daemon.state / "journal").write_bytes(journal)
    daemon.start()


def test_a_flipped_byte_anywhere_leaves_the_leases_of_the_intact_frames(victim: tuple[Daemon, bytes]) -> None:
    daemon, data = victim
    frames = intact_frames(data)
    end = frames[-1][0] + 28 + len(frames[-1][2])
    inside = (0, 3, 5, 13, 21, 25, 40)  # magic, generation, sequence, length, checksum, payload
    places = [begin + inside[(n + 3) % 7] for n, (begin, _, _) in enumerate(frames)] + [0, 21, end - 1, end, end + 20]
    for place in places:
        journal = bytearray(data)
        journal[place] ^= 0x41
        start_with(daemon, bytes(journal))
        assert leases(daemon).keys() == leases_in(bytes(journal)), f"byte {place}"
        damaged = frames[0][0] <= place < frames[-1][0]
        assert ("salvaged" in warnings(daemon)) == damaged, f"byte {place}"


def test_a_journal_cut_anywhere_leaves_the_leases_of_the_frames_before(victim: tuple[Daemon, bytes]) -> None:
    daemon, data = victim
    frames = intact_frames(data)
    begin = frames[-2][0]
    for length in (0, 1, 27, frames[1][0], begin - 1, begin, begin + 10, begin + 28, frames[-1][0] - 1, len(data) - 1):
        start_with(daemon, data[:length])
        assert leases(daemon).keys() == leases_in(data[:length]), f"the first {length} bytes"
        acquire(daemon, "later")


def test_a_damaged_journal_is_kept_aside_whole_and_the_next_start_is_clean(victim: tuple[Daemon, bytes]) -> None:
    daemon, data = victim
    damaged = bytearray(data)
    damaged[intact_frames(data)[3][0] + 30] ^= 1
    start_with(daemon, bytes(damaged))
    assert (daemon.state / "journal.damaged-1").read_bytes() == damaged
    assert "journal was damaged" in warnings(daemon)
    assert "journal was damaged" in daemon.log
    held = leases(daemon)
    daemon.restart()
    assert leases(daemon) == held
    assert warnings(daemon) == ""
    assert (daemon.state / "journal.damaged-1").read_bytes() == damaged


def test_only_the_newest_damaged_journals_are_kept(victim: tuple[Daemon, bytes]) -> None:
    daemon, _ = victim
    for number in range(5):
        (daemon.state / "journal").write_bytes(b"%d is no journal" % number)
        daemon.start()
        daemon.kill()
    kept = {path.name: path.read_bytes() for path in daemon.state.glob("journal.damaged-*")}
    assert kept == {f"journal.damaged-{n + 1}": b"%d is no journal" % n for n in (2, 3, 4)}


def test_a_torn_last_write_is_no_damage(victim: tuple[Daemon, bytes]) -> None:
    daemon, data = victim
    last = intact_frames(data)[-1][0]
    torn = data[: last + 40] + bytes(len(data) - last - 40)
    start_with(daemon, torn)
    assert warnings(daemon) == ""
    assert not list(daemon.state.glob("journal.damaged-*"))
    assert leases(daemon).keys() == leases_in(torn)


@pytest.mark.parametrize("left", [(), ("journal.old",), ("journal.next",), ("journal.next", "journal.old")])
def test_a_journal_that_is_gone_leaves_a_shop_without_leases(victim: tuple[Daemon, bytes], left: Sequence[str]) -> None:
    daemon, data = victim
    for path in daemon.state.glob("journal*"):
        path.unlink()
    for name in left:
        (daemon.state / name).write_bytes(data)
    daemon.start()
    assert leases(daemon) == {}
    lease = acquire(daemon, "a")
    daemon.restart()
    assert leases(daemon) == {lease: "a"}


def test_after_a_salvage_the_surplus_is_withdrawn_and_nothing_else(folder: Path) -> None:
    with started(folder) as shop:
        with shop.client() as client:
            gone = acquire(client, "a", "kso.scales", seats=4)
            client.call("seat.release", lease=gone)
            acquire(client, "b", "kso.scales", seats=4)
        shop.kill()
        data = bytearray((shop.state / "journal").read_bytes())
        release = next(
            begin
            for begin, _, payload in intact_frames(bytes(data))
            if gone.encode() in payload and b"kso.scales" not in payload
        )
        data[release + 30] ^= 1
        (shop.state / "journal").write_bytes(data)
        shop.start()
        with shop.client() as client:
            assert client.call("server.status")["seats"] == {"held": 8, "total": 4}
            assert client.call("seat.confirm", lease=gone)["lease"] == gone
            assert refusal(client, "seat.confirm", license="kso.scales", holder="b").name == "SEATS_WITHDRAWN"
            assert refusal(client, "seat.acquire", license="kso.scales", holder="c").name == "NO_SEAT_FREE"
            acquire(client, "c")


# --- a license file that was touched between two runs --------------------------------------------------------


def flipped(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.index(b"kso.scales")] ^= 1
    path.write_bytes(data)


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


TOUCHED: dict[str, Callable[[Path], object]] = {
    "flipped": flipped,
    "older": lambda path: path.write_bytes(FILES[1]),
    "deleted": lambda path: path.unlink(),
    "emptied": lambda path: path.write_bytes(b""),
    "too large": lambda path: path.write_bytes(path.read_bytes() + b"# \n" * 400_000),
    "two": lambda path: path.write_bytes(FILES[2] + FILES[1]),
    "another's": lambda path: path.write_bytes(OTHER.license_file(9, [{"name": "pos.x"}])),
    "no file": replaced_by_a_folder,
}


@pytest.mark.parametrize("how", TOUCHED)
def test_a_license_file_that_was_touched_is_named_and_counts_for_nothing(folder: Path, how: str) -> None:
    with started(folder) as shop:
        shop.call("license.import", document=FILES[2])
        shop.call("license.import", document=OTHER.license_file(1, [{"name": "pos.till", "seats": 2}]))
        lease, others = acquire(shop, "a", "kso.scales"), acquire(shop, "a", "pos.till")
        shop.kill()
        path = shop.state / "licenses" / "acme.licd"
        TOUCHED[how](path)
        shop.start()
        assert any(text.startswith("acme: ") for text in shop.call("server.status")["warnings"])
        rows = {row["vendor"]: row for row in shop.call("server.status")["vendors"]}
        assert (rows["acme"]["in_force"], rows["other"]["in_force"]) == (False, True)
        assert rows["acme"]["problem"] is not None
        assert refusal(shop, "seat.acquire", license="kso.scales", holder="b").name == "NO_SUCH_LICENSE"
        assert refusal(shop, "seat.confirm", lease=lease).name == "SEATS_WITHDRAWN"
        assert shop.call("seat.confirm", lease=others)["lease"] == others
        acquire(shop, "b", "pos.till")
        assert refusal(shop, "license.import", document=FILES[1]).name == "OLDER_FILE"
        if how == "no file":
            path.rmdir()
        shop.call("license.import", document=FILES[2])
        assert warnings(shop) == ""
        assert shop.call("seat.confirm", lease=lease)["lease"] == lease
        shop.restart()
        assert warnings(shop) == ""
        assert shop.call("license.export", vendor="acme")["document"].encode() == FILES[2]


def test_importing_again_heals_a_file_that_was_touched_while_licd_ran(shop: Daemon) -> None:
    path = shop.state / "licenses" / "acme.licd"
    flipped(path)
    shop.call("license.import", document=FILES[1])
    assert path.read_bytes() == FILES[1]
    shop.restart()
    assert warnings(shop) == ""

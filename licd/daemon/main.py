"""licd: start, serve until told to stop, and say with the exit status why it ended."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import licd
from licd.daemon import config as configuration
from licd.daemon import listener, log
from licd.daemon.config import Config, ConfigError
from licd.daemon.device import Device
from licd.daemon.installed import Installed
from licd.daemon.notify import Notifier
from licd.daemon.reload import reload
from licd.daemon.requests import Requests
from licd.daemon.server import Server
from licd.daemon.service import FaultAfterChange
from licd.daemon.state import State, stamp
from licd.daemon.taking_in import complete
from licd.device import clock
from licd.license import trust
from licd.license.store import Store
from licd.seats import lock
from licd.seats.events import Accepted
from licd.seats.journal import Journal, JournalFailed, NoJournal
from licd.seats.ledger import Ledger
from licd.seats.replay import Clock, Replay, replay

# Exit statuses, as in sysexits.h; argparse ends with 2. Public: licd(8) EXIT STATUS.
DONE = 0
FAULT = os.EX_SOFTWARE  # 70
NO_SOCKET = os.EX_OSERR  # 71
JOURNAL_FAILED = os.EX_IOERR  # 74
LOCKED = os.EX_TEMPFAIL  # 75
BAD_CONFIG = os.EX_CONFIG  # 78: after this, and after 2, a restart does not help

LOCK_WAIT_S = 30.0  # for the process before to finish its stop
START_PATIENCE_S = 15.0  # asked of systemd again and again while the lock is waited for
_SPARE_DESCRIPTORS = 64  # beside the connections: journal, timer, listener, administrators


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    if sys.stderr is not None:
        faulthandler.enable()  # of a death by SIGSEGV and the like the log then says where
    try:
        return _run(args)
    except (ConfigError, trust.ProfileError) as error:
        return _end(BAD_CONFIG, str(error))
    except listener.ListenError as error:
        return _end(NO_SOCKET, str(error))
    except lock.Locked as error:
        return _end(LOCKED, f"another licd ({error.holder}) uses this state folder; stop it, or choose another --state")
    except JournalFailed as error:
        return _end(JOURNAL_FAILED, f"{error}; nothing unsynced was acknowledged; stopping, so that a restart reads it")
    except FaultAfterChange as error:
        return _end(FAULT, f"a fault in {error} after state had changed; stopping so that a restart reads the journal")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="licd", description="The license server of this device. See licd(8).")
    parser.add_argument(
        "--config", type=Path, metavar="FILE", help="licd.conf (default: /etc/licd/licd.conf, if there)"
    )
    parser.add_argument("--state", type=Path, metavar="FOLDER", help="journal and license files")
    parser.add_argument("--socket", type=Path, metavar="PATH", help="the Unix socket to listen on")
    parser.add_argument("--vendors", type=Path, metavar="FOLDER", help="vendor profiles")
    parser.add_argument("--version", action="version", version=f"licd {licd.__version__}")
    return parser


def _end(status: int, text: str) -> int:
    log.write(log.ERROR, text)
    return status


def _run(args: argparse.Namespace) -> int:
    notifier = Notifier()

    def load_config() -> Config:
        flags = {"state": args.state, "socket": args.socket, "vendors": args.vendors}
        return _within_descriptors(configuration.load(args.config, flags, os.environ))

    gc.disable()  # nothing of what a start builds is garbage, and looking for some would double its time
    config = load_config()
    _make_folder(config.state)
    held = _wait_for_lock(config.state, notifier)
    inherited = listener.inherited()
    listening = inherited or listener.bind(config.socket, config.socket_mode, config.socket_group)
    inode = config.socket.lstat().st_ino if inherited is None else None
    state, same_boot = _restore(config, locked=held is not None)
    server = Server(state, listening, notifier)
    server.loop.catch(signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    server.start()
    gc.freeze()
    gc.enable()
    state.ledger.promise_all(state.now, same_boot=same_boot)
    notifier.ready()
    log.write(log.INFO, f"licd {licd.__version__} serves {config.socket}: {state.summary()}")
    reload_wanted = False
    while True:
        signals = server.turn()
        if signals & {signal.SIGTERM, signal.SIGINT}:
            break
        reload_wanted = reload_wanted or signal.SIGHUP in signals
        if reload_wanted and not server.busy:
            reload_wanted = False
            notifier.reloading()
            reload(state, server, load_config)
            notifier.ready()
    notifier.stopping()
    server.stop()
    if inode is not None:
        _remove_socket(config.socket, inode)
    if held is not None:
        os.close(held)
    log.write(log.INFO, "stopped")
    return DONE


def _restore(config: Config, *, locked: bool) -> tuple[State, bool]:
    """The state as journal and license files say, on record in a new journal file; and whether the boot is the same."""
    ledger = Ledger()
    # Without the lock another licd may write the journal: a second writer would destroy it.
    unwritable = None if locked else f"{config.state / 'lock'} cannot be opened for writing"
    try:
        found = replay(config.state)
    except OSError as error:
        found = Replay([], None, None)
        unwritable = f"journal: {error.strerror}"
    for event in found.events:
        ledger.apply(event)
    boot_id = clock.boot_id()
    same_boot = boot_id is None or ledger.boot_id is None or boot_id == ledger.boot_id
    ledger.restart(same_boot=same_boot)
    now, wall = clock.boottime(), clock.wall()
    record, recorded_at = None, now
    if found.clock is not None:
        mark, expected, budget_s, recorded_at, ran_s = found.clock
        record = clock.ClockRecord(mark, expected, budget_s, ran_s)
    trusted = clock.TrustedClock(
        record,
        clean_stop=ledger.clean_stop,
        wall=wall,
        boot=now,
        synchronized=clock.ntp_synchronized(),
        # What passed since the record is known only where both boot ids are.
        passed=now - recorded_at if boot_id is not None and boot_id == ledger.boot_id else None,
    )
    profiles, files = trust.load_profiles(config.vendors), Store(config.state / "licenses")
    installed = Installed(profiles, files, Requests(config.state))
    installed.load(ledger.accepted, trusted.now(wall, now))
    for file in installed.files.values():
        trusted.floor(file.issued, wall, now)
        ledger.apply(Accepted(file.vendor, file.seq, file.digest))
    if unwritable is None:
        journal = _open_journal(config, ledger, stamp(trusted, now), boot_id, keep_aside=found.problem is not None)
    else:
        journal = NoJournal(unwritable)
    device = Device(config.state, boot_id)
    missing = installed.problems.keys() | ledger.accepted.keys() - installed.files.keys()
    device.open(installed.files, all_known=not missing, writable=journal.writable)
    state = State(config, ledger, journal, installed, clock=trusted, device=device)
    if found.problem is not None:
        state.salvage_problem = found.problem
        state.salvage_until = now + config.max_ttl
    for text in (found.problem, journal.reason, device.problem):
        if text is not None:
            log.write(log.ERROR, text)
    for vendor, problem in installed.problems.items():
        log.write(log.ERROR, f"{vendor}: {problem}")
    state.tell_time(now, wall)
    complete(state)
    return state, same_boot


def _open_journal(
    config: Config, ledger: Ledger, now: Clock, boot_id: str | None, *, keep_aside: bool
) -> Journal | NoJournal:
    try:
        return Journal(config.state, config.journal_size, ledger, now, boot_id, keep_aside=keep_aside)
    except OSError as error:
        return NoJournal(f"{error.filename or config.state}: {error.strerror}")


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o750, parents=True, exist_ok=True)
    except OSError as error:
        if not os.path.isdir(folder):  # Path.is_dir() lets some errors through
            raise ConfigError(f"the state folder {folder} cannot be made: {error.strerror}") from None


def _remove_socket(path: Path, inode: int) -> None:
    """The path is gone, if it is still our socket: somebody may have removed that, and another licd have bound it."""
    with contextlib.suppress(OSError):
        if path.lstat().st_ino == inode:
            path.unlink()


def _wait_for_lock(folder: Path, notifier: Notifier) -> int | None:
    """Errors: Locked, after some patience with a process that is about to stop"""
    until = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            return lock.acquire(folder)
        except lock.Locked as locked:
            if time.monotonic() > until:
                raise
            notifier.status(f"waiting for {locked.holder} to leave the state folder")
            notifier.starting(START_PATIENCE_S)
            time.sleep(0.1)


def _within_descriptors(config: Config) -> Config:
    """The configuration with no more connections than descriptors can be had for; the soft limit is raised to that."""
    wanted = config.max_connections + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return config
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    if most == wanted:
        return config
    connections = max(1, most - _SPARE_DESCRIPTORS)
    log.write(log.WARNING, f"max_connections is {connections}: no more than {most} files may be open (LimitNOFILE=)")
    return config._replace(max_connections=connections)


if __name__ == "__main__":
    sys.exit(main())

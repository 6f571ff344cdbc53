"""A bug in licd itself: answered as such, logged once, survived where nothing has changed yet.

No way is known to make licd err from outside, so a bug is put into the real process: Python imports a module
sitecustomize, if there is one on its path, before the program.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from tests.support.daemon import Daemon
from tests.support.device import device, vendor
from tests.support.process import comes_to_rest
from tests.support.raw import Raw, pack, request

FAULT = 70

BEFORE_A_CHANGE = """
from licd.daemon.seat_methods import SeatMethods

def fail(self, connection, msgid, *arguments):
    raise ZeroDivisionError(f"a bug, met for {next(filter(None, arguments), None)}")

SeatMethods.list_seats = SeatMethods.confirm = fail
"""

# What is sent together is of one turn there, however busy the machine is.
AFTER_A_CHANGE = """
from licd.daemon import clients
from licd.daemon.seat_methods import SeatMethods

clients.SLICE_S = clients.USER_SLICE_S = 60.0
acquire = SeatMethods.acquire

def fail(self, connection, msgid, license, holder, *others):
    acquire(self, connection, msgid, license, holder, *others)
    if holder == "unlucky":
        raise ZeroDivisionError("a bug")

SeatMethods.acquire = fail
"""

IN_AN_IMPORT = """
from licd.daemon.installed import Installed

put_in_force = Installed.put_in_force

def fail(self, file):
    if file.seq == 2:
        raise ZeroDivisionError("a bug")
    put_in_force(self, file)

Installed.put_in_force = fail
"""


@contextlib.contextmanager
def faulty(bug: str) -> Iterator[Daemon]:
    with device(start=False) as licd:
        (licd.folder / "sitecustomize.py").write_text(bug)
        licd.env = {"PYTHONPATH": os.pathsep.join([str(licd.folder), *filter(None, [os.environ.get("PYTHONPATH")])])}
        yield licd.start()


def test_a_bug_in_a_handler_is_answered_internal_logged_once_and_survived() -> None:
    with faulty(BEFORE_A_CHANGE) as licd, Raw(licd.socket) as raw:
        for _ in range(3):
            assert raw.refusal("seat.list", {"holder": "one"}) == "INTERNAL"
        assert raw.call("license.check", license="kso.scan")["valid"] is True
        assert raw.call("seat.acquire", license="kso.scan", holder="till-1")["seats"] == 1
        assert licd.log.count("ZeroDivisionError: a bug, met for one") == 1
        assert licd.log.count("Traceback") == 1
        assert comes_to_rest(licd.pid)
        assert licd.stop() == 0


def test_one_bug_met_with_ever_other_arguments_is_still_one_bug_in_the_log() -> None:
    with faulty(BEFORE_A_CHANGE) as licd, Raw(licd.socket) as raw:
        for n in range(50):
            assert raw.refusal("seat.list", {"holder": f"till-{n}"}) == "INTERNAL"
        assert licd.log.count("Traceback") == 1


def test_the_answer_to_a_bug_gives_nothing_of_its_traceback_away() -> None:
    with faulty(BEFORE_A_CHANGE) as licd, Raw(licd.socket) as raw:
        raw.send(request(1, "seat.list"))
        error = raw.read()[2]
        assert (error["code"], error["data"]["method"]) == (90, "seat.list")
        assert "ZeroDivision" not in str(error)


def test_a_bug_in_a_notification_is_logged_and_not_answered() -> None:
    with faulty(BEFORE_A_CHANGE) as licd, Raw(licd.socket) as raw:
        raw.send(pack([2, "seat.confirm", [{"lease": "0" * 24}]]))
        assert raw.call("server.hello")["server"] == "licd"
        assert licd.log.count("fault in seat.confirm") == 1


def test_a_bug_after_a_change_ends_the_process_with_70_before_any_answer_of_the_turn_leaves() -> None:
    with faulty(AFTER_A_CHANGE) as licd:
        with Raw(licd.socket) as raw:
            raw.send(
                request(1, "seat.acquire", {"license": "kso.pos", "holder": "lucky"})
                + request(2, "seat.acquire", {"license": "kso.pos", "holder": "unlucky"})
            )
            assert raw.rest() == []
        assert licd.process is not None
        assert licd.process.wait(10) == FAULT
        assert licd.log.count("ZeroDivisionError: a bug") == 1
        assert "seat.acquire" in licd.log.splitlines()[-1]
        licd.start()
        assert licd.call("server.status")["leases"] == 0


def test_a_bug_in_an_import_is_answered_and_the_next_import_is_not_kept_waiting() -> None:
    with faulty(IN_AN_IMPORT) as licd, Raw(licd.socket) as raw:
        assert raw.refusal("license.import", {"document": vendor().license_file(seq=2)}) == "INTERNAL"
        assert raw.call("license.export")["seq"] == 1
        raw.call("license.import", document=vendor().license_file(seq=3))
        assert raw.call("license.export")["seq"] == 3
        assert comes_to_rest(licd.pid)

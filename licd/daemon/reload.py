"""A reload is all or nothing: everything new is verified beside, and only what takes away no valid license comes in."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from licd.daemon import log
from licd.daemon.config import Config, ConfigError
from licd.daemon.installed import Installed
from licd.daemon.state import State
from licd.license import trust
from licd.seats.events import Accepted

if TYPE_CHECKING:
    from licd.daemon.server import Server

# What a running process cannot change: it holds these open.
_FIXED = ("state", "socket", "socket_mode", "socket_group", "journal_size")


class NotReloaded(Exception):
    """The old configuration stays in force; the message says why."""


def reload(state: State, server: Server, load_config: Callable[[], Config]) -> None:
    """The new configuration, profiles and files are in force, or the old ones are and status says why."""
    state.device.look_again()
    try:
        config, installed = _prepare(state, load_config)
    except (ConfigError, trust.ProfileError, NotReloaded) as error:
        state.reload_problem = f"the reload was refused and the old configuration stays in force: {error}"
        log.write(log.ERROR, state.reload_problem)
    else:
        state.reload_problem = None
        state.config = config
        # recognize() and judge() tell what has changed.
        installed.standings, installed.verdicts = state.installed.standings, state.installed.verdicts
        state.installed = installed
        server.clients.know_groups()
        _remember_files(state)
    state.recognize()
    server.judge()
    state.journal.commit(state.stamp())


def _remember_files(state: State) -> None:
    """What somebody put into the state folder counts as if it had been imported: nothing older comes in after it."""
    for file in state.installed.files.values():
        accepted = Accepted(file.vendor, file.seq, file.digest)
        if state.ledger.accepted.get(file.vendor) != accepted:
            state.clock.floor(file.issued, state.wall, state.now)
            state.record(accepted)


def _prepare(state: State, load_config: Callable[[], Config]) -> tuple[Config, Installed]:
    config = load_config()
    for key in _FIXED:
        if getattr(config, key) != getattr(state.config, key):
            raise NotReloaded(f"{key} changes only with a restart")
    installed = Installed(trust.load_profiles(config.vendors), state.installed.store, state.requests)
    installed.load(state.ledger.accepted, state.trusted)
    state.look(installed)
    state.plan(installed)
    verdicts = installed.judge(state.trusted).names
    for name, before in state.installed.verdicts.names.items():
        if before.total != 0 and (name not in verdicts or verdicts[name].total == 0):
            why = "; ".join(f"{vendor}: {problem}" for vendor, problem in installed.problems.items())
            if name in verdicts:
                why = why or str(verdicts[name].refusal(None))
            raise NotReloaded(f"{name} would become invalid ({why or 'its vendor profile is gone'})")
    return config, installed

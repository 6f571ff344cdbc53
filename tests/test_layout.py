"""Imports point one way, and what is to be pure imports nothing that is not."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from licd.cli import activate_commands, answers, renew_commands, seat_commands
from licd.daemon import config, methods, state
from licd.device import machine
from licd.license import install, renewal
from licd.rpc import client
from licd.seats import events, usage
from licd_vendor import serve

LICD = Path(__file__).parent.parent / "licd"
MODULES = sorted(path.relative_to(LICD).with_suffix("").as_posix() for path in LICD.rglob("*.py"))

# What each package may use besides itself; of rpc: the catalogue of errors only.
MAY_USE = {
    "rpc": set(),
    "device": {"durable"},
    "license": {"rpc.errors", "durable"},
    "seats": {"rpc.errors", "durable"},
    "online": {"license"},
    "daemon": {"rpc", "license", "device", "seats"},
    "cli": {"rpc", "license", "device", "seats", "online"},
}
PURE = [
    *(
        "rpc/wire",
        "rpc/errors",
        "license/document",
        "license/code",
        "license/lines",
        "license/members",
        "license/dates",
    ),
    *("license/binding", "license/versions", "license/terms", "license/schedule", "license/renewal"),
    *("device/fingerprint", "device/placeholders", "daemon/recognition", "daemon/renewing"),
    *("seats/events", "seats/frames", "seats/pool", "seats/ledger", "seats/usage"),
]
IMPURE = {"os", "io", "pathlib", "socket", "select", "selectors", "time", "random", "secrets", "uuid", "subprocess"}


def imported(module: str) -> Iterator[str]:
    for node in ast.walk(ast.parse((LICD / f"{module}.py").read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.module is not None
            assert node.level == 0
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("module", [module for module in MODULES if "/" in module])
def test_a_module_uses_only_the_packages_below_its_own(module: str) -> None:
    package = module.partition("/")[0]
    for name in imported(module):
        if name.startswith("licd.") and name != "licd.__version__":
            inside = name.removeprefix("licd.")
            allowed = (package, *MAY_USE[package])
            assert any(f"{inside}.".startswith(f"{each}.") for each in allowed), f"{module} imports {name}"


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_imports_no_clock_no_file_no_socket_and_no_chance(module: str) -> None:
    assert {name.partition(".")[0] for name in imported(module)}.isdisjoint(IMPURE)


def test_what_stands_twice_because_of_the_direction_of_imports_is_the_same() -> None:
    assert (install.PHYSICAL, install.VM, install.CONTAINER) == (machine.PHYSICAL, machine.VM, machine.CONTAINER)
    for each in ("CODE", "INSTALL_REQUEST", "LICENSE_REQUEST", "LICENSE_FILE"):
        assert getattr(activate_commands, each) == getattr(serve, each)
    for each in ("RENEWAL_REQUEST", "RENEWAL_ANSWER"):
        assert getattr(renew_commands, each) == getattr(serve, each)
    assert {state.GRACE, state.DEVICE_CHANGED, state.RENEWAL_DUE} == answers.WARNINGS.keys()
    assert (usage.MAX_DAYS, usage.MAX_NAMES) == (renewal.MAX_DAYS, renewal.MAX_NAMES)
    assert events.MAX_WORDS == renewal.MAX_REASON
    assert seat_commands.MAX_CONFIRMS == methods.MAX_CONFIRMS
    assert Path(client.DEFAULT_SOCKET) == config.Config().socket

"""The manual against the code, in both directions: what a page lists is all there is, with the same bounds."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from licd.cli import main as cli
from licd.cli import problems, vendor_server
from licd.daemon import clients, config, connection, delivery, main, methods, notify, reload, renewal_methods, state
from licd.daemon import renewing as courses
from licd.device import clock
from licd.device.fingerprint import DEFAULT_SHARE
from licd.license import document, lines, renewal, schedule, signer, terms, trust, versions
from licd.rpc import client, errors, wire
from licd.seats import journal, ledger, usage
from licd_vendor import keys, load, pacing, renewing, sign, store_commands, written
from tests.support import mdoc
from tests.support.mdoc import MAN, items, listed, section, source, subsections, text, with_macro
from tests.support.wording import commands, head, phrase

PAGES = sorted(path.name for path in MAN.iterdir())
RPC = source("licd-rpc.7")


# --- all pages ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("mandoc") is None, reason="mandoc is not installed")
@pytest.mark.parametrize("page", PAGES)
def test_mandoc_finds_nothing_to_warn_about(page: str) -> None:
    done = subprocess.run(
        ["mandoc", "-Tlint", "-Wwarning", MAN / page], capture_output=True, text=True, check=False, timeout=30
    )
    assert (done.stdout + done.stderr, done.returncode) == ("", 0)


@pytest.mark.parametrize("page", PAGES)
def test_every_page_that_a_page_refers_to_is_there(page: str) -> None:
    referred = {f"{name}.{number}" for name, number in re.findall(r"(?m)(?:^\.|\s)Xr (licd\S*) (\d)", text_of(page))}
    assert referred
    assert referred <= set(PAGES)


def test_every_section_of_the_manual_that_a_message_names_is_there() -> None:
    modules = (path for root in ("licd", "tools/vendor") for path in (MAN.parent / root).rglob("*.py"))
    sources = (path.read_text("utf-8") for path in modules)
    named = {each for text in sources for each in re.findall(r"(licd[a-z.-]*)\((\d)\),? ([A-Z]{3,}(?: [A-Z]+)*)", text)}
    assert named
    for name, number, heading in named:
        assert section(source(f"{name}.{number}"), heading)


def text_of(page: str) -> str:
    return (MAN / page).read_text("utf-8")


# The first moment at which a refused device asks again, and the last, in hours.
ASKED_AGAIN_H = ((1 - schedule.RETRY_SPREAD) * schedule.LAST_RETRY_S / 3600, schedule.LAST_RETRY_S / 3600)

NUMBERS = {
    "licd.8": [
        f"after {state.LOOK_AGAIN_S:g} seconds",
        f"of at most {state.LOOK_AGAIN_MOST_S / 60:g} minutes",
        f"device_grace_days of the license file, {sign._FILE['device_grace_days']} unless the vendor",
        f"for {main.LOCK_WAIT_S:g} seconds",
        f"within {clock.TOLERANCE_S / 3600:g} hours",
        f"at most {clock.BUDGET_S / 86400:g} days of running",
        f"at most {clock.RECORD_INTERVAL_S / 60:g} minutes",
        f"at most {journal.MAX_KEPT_ASIDE} of them",
        f"has run for {schedule.RUNNING_S / 3600:g} hours",
        f"for at most {usage.MAX_DAYS} days, and fewer",
        f"in status for {courses.LESS_NOTICE_S / 86400:g} days",
    ],
    "licd.conf.5": [f"Administrators get {clients.ADMIN_SPARE} more"],
    "licd-cli.1": [
        f"else {client.DEFAULT_SOCKET}",
        f"vendor's server {vendor_server.TIMEOUT_S:g}.",
        f"busy for at most {vendor_server.MAX_PAUSE_S} seconds",
    ],
    "licd-rpc.7": [
        f"listens on a Unix stream socket, {config.Config().socket}",
        f"at most {clients.MAX_MESSAGE_BYTES} bytes",
        f"documents, at most {clients.MAX_DOCUMENT_MESSAGE_BYTES}",
        f"at most {wire.MAX_ITEMS} elements",
        f"Where {connection.MAX_WAITING_BYTES} bytes",
        f"at most {ledger.MAX_REMEMBERED} of them",
        f"at most {ledger.AFTER_REBOOT_TTL_S} seconds",
    ],
    "licd-license.5": [
        f"{document.MAX_DOCUMENT_BYTES} bytes",
        f"{document.MAX_INPUT_LINES} lines",
        f"{document.MAX_LINES} records",
        f"{document.MAX_HEADER_LINE} bytes",
        f"{document.MAX_LINE} bytes",
        f"At most {document.MAX_DEPTH} levels",
        f"1 to {signer.MAX_CHAIN} certificates",
        f"over at most {signer.MAX_CHAIN} certificates",
        f"{document.MAX_RENEWAL_BYTES} bytes A renewal request with",
        f"At most {lines.MAX_PERIODS} different ones in a file.",
        f"{schedule.RUNNING_S / 3600:g} hours of running",
        f"an array of 1 to {renewal.MAX_DAYS} days",
        f"at most {renewal.MAX_NAMES} licenses",
        f"again after {schedule.FIRST_RETRY_S / 3600:g} hours",
        f"heeded for up to {schedule.MAX_RETRY_AFTER_S / 86400:g} days",
        f"RSA with {signer.MIN_RSA_BITS} to {signer.MAX_RSA_BITS} bits",
        f"one purpose {signer.SIGNING_PURPOSE.dotted_string} and",
        f"at most {trust.RETIRED_AFTER_S // 86400} days ago",
        "asks again after {:g} to {:g} hours".format(*ASKED_AGAIN_H),
        f"more than {delivery.CLOCK_TOLERANCE_S // 3600} hours behind",
        f"up to {versions.MAX_CONDITIONS} conditions",
        f"a share of {DEFAULT_SHARE}.",
    ],
    "licd-vendor.1": [
        f"valid for {keys.ROOT_YEARS} years, the signing certificate for {keys.SIGNER_YEARS} years",
        f"RSA with {keys.new_key('rsa').key_size} bits",
        f"ended over {trust.RETIRED_AFTER_S // 86400} days ago",
        f"where left out, {written.EVERY_DAYS} and {written.GRACE_DAYS}.",
        f"1 to {store_commands.MAX_REASON} printable characters",
        f"the last {renewing.MAX_KEPT} renewals",
        f"had {load.MAX_A_DAY} answers within a day",
        f"Up to {pacing.FREE} renewals in 24 hours, or up to {pacing.CALM} times the mean",
        f"from {pacing.MIN_WAIT_S // 3600} hours to {pacing.MAX_WAIT_S // 86400} days ahead",
        f"up to {pacing.CEILING} times the mean",
    ],
}


@pytest.mark.parametrize(("page", "words"), [(page, words) for page in NUMBERS for words in NUMBERS[page]])
def test_a_number_in_the_text_is_the_code_s(page: str, words: str) -> None:
    every = " ".join([text(source(page)), *(item.head for item in items(source(page)))])
    assert words in every


# --- licd-rpc(7) --------------------------------------------------------------------------------------------

METHOD_SECTIONS = subsections(section(RPC, "METHODS"))
WHO = {
    methods.ANY: "any peer",
    methods.CLIENT: "clients",
    methods.COURIER: "couriers",
    methods.ADMIN: "administrators",
}


def test_the_manual_lists_exactly_the_methods_of_the_table() -> None:
    assert list(METHOD_SECTIONS) == [method.name for method in methods.METHODS]


@pytest.mark.parametrize("method", methods.METHODS, ids=lambda method: method.name)
def test_a_method_s_section_says_who_may_call_it(method: methods.Method) -> None:
    also = "; also as a notification" if method.notification else ""
    assert METHOD_SECTIONS[method.name][0] == f"For {WHO[method.who]}{also}."


@pytest.mark.parametrize("method", methods.METHODS, ids=lambda method: method.name)
def test_a_method_s_arguments_are_listed_with_type_bounds_and_default(method: methods.Method) -> None:
    entries = {item.head: listed(item) for item in with_macro(METHOD_SECTIONS[method.name], "Fa")}
    assert entries == {param.name: (f"{phrase(param.check)}.", default_of(param)) for param in method.params}


@pytest.mark.parametrize("method", ["license.check", "license.list"])
def test_the_manual_lists_exactly_the_states_of_a_license_the_best_first(method: str) -> None:
    head = {"license.check": "state", "license.list": "licenses[].state"}[method]
    (entry,) = [item for item in with_macro(METHOD_SECTIONS[method], "Va") if item.head == head]
    assert literals(entry) == list(terms._RANK)


def test_the_manual_lists_exactly_the_warnings_that_come_with_a_seat() -> None:
    (entry,) = [item for item in with_macro(METHOD_SECTIONS["seat.acquire"], "Va") if item.head == "warnings"]
    assert literals(entry) == [state.GRACE, state.DEVICE_CHANGED, state.RENEWAL_DUE]


@pytest.mark.parametrize(
    ("head", "values"),
    [
        ("vendors[].need", [schedule.NONE, schedule.OPTIONAL, schedule.REQUIRED]),
        ("vendors[].why", [schedule.NEVER, schedule.NOT_DUE, schedule.DUE, schedule.FAILED, schedule.REFUSED]),
        ("vendors[].last", [courses.RENEWED, courses.UNCHANGED, courses.REFUSED]),
    ],
)
def test_the_manual_lists_exactly_the_words_of_a_plan(head: str, values: list[str]) -> None:
    (entry,) = [item for item in with_macro(METHOD_SECTIONS["renewal.plan"], "Va") if item.head == head]
    assert literals(entry) == values


def test_the_manual_lists_exactly_the_outcomes_of_a_report() -> None:
    outcomes = {renewal_methods.ALREADY, renewal_methods.NOTED}
    outcomes |= {courses.RENEWED, courses.UNCHANGED, courses.REFUSED}
    (entry,) = [item for item in with_macro(METHOD_SECTIONS["renewal.report"], "Va") if item.head == "outcome"]
    assert set(literals(entry)) == outcomes


def test_the_manual_lists_exactly_the_roles() -> None:
    (entry,) = [item for item in with_macro(METHOD_SECTIONS["server.hello"], "Va") if item.head == "roles"]
    assert set(literals(entry)) == {methods.CLIENT, methods.COURIER, methods.ADMIN}
    described = section(section(RPC, "DESCRIPTION"), "Who may do what")
    assert [item.head for item in items(described)] == ["client", "courier", "administrator"]


def literals(item: mdoc.Item) -> list[str]:
    """The words that an entry sets in literal type, in order."""
    return [word for line in item.lines if line.startswith(".Li ") for word in line.split()[1:] if word not in ",.:;"]


def default_of(param: methods.Param) -> str:
    if param.default is methods.REQUIRED:
        return "Required."
    shown = str(param.default).lower() if type(param.default) is bool else param.default
    return f"Default: {'nil' if shown is None else shown}."


def test_the_manual_lists_exactly_the_error_catalogue() -> None:
    found = {}
    for heading, body in subsections(section(RPC, "ERROR CATALOGUE")).items():
        for item in items(body):
            code, name, who = item.head.split(" ")
            assert code[0] == heading[0]
            message, _, following = item.text.partition(" Next: ")
            found[name] = errors.Error(int(code), name, message, following, who.strip("()"))
    assert found == errors.CATALOGUE


@pytest.mark.parametrize("page", PAGES)
def test_every_error_that_the_text_names_is_in_the_catalogue(page: str) -> None:
    named = set(re.findall(r"Er ([A-Z_]+)", text_of(page)))
    assert named <= errors.CATALOGUE.keys()


# --- licd.conf(5) -------------------------------------------------------------------------------------------


def test_the_manual_lists_exactly_the_keys_of_the_configuration() -> None:
    entries = {item.head: listed(item) for item in with_macro(section(source("licd.conf.5"), "DESCRIPTION"), "Cm")}
    expected = {}
    for key, reader in config.READERS.items():
        default = getattr(config.Config(), key)
        shown = "none" if default is None else f"{default:04o}" if key == "socket_mode" else default
        expected[key] = (wanted(reader), f"Default: {shown}.")
    assert entries == expected


def wanted(reader: Callable[[str], Any]) -> str:
    try:
        reader("x")
    except ValueError as error:
        said = str(error)
    if said.startswith("names a group that does not exist"):
        return "A group that exists."
    words = said.removeprefix("must be ").split(";")[0]
    return f"{words[:1].upper()}{words[1:]}."


def test_the_manual_says_which_keys_only_a_restart_changes() -> None:
    entries = with_macro(section(source("licd.conf.5"), "DESCRIPTION"), "Cm")
    assert {item.head for item in entries if "Only a restart changes it." in item.lines} == set(reload._FIXED)


def test_the_example_configurations_are_accepted(tmp_path: Path) -> None:
    packaged, by_hand = mdoc.displays(section(source("licd.conf.5"), "EXAMPLES"))
    groups = re.findall(r"(?m)^([a-z-]+):", Path("/etc/group").read_text())[:3]  # some that this machine has
    for example, group in ((packaged, None), (by_hand, groups[0])):
        named = [each for each in (group, *groups[1:]) if each is not None]
        path = tmp_path / "licd.conf"
        path.write_text(re.sub(r"(?<=_group = ).*", "{}", example).format(*named))
        loaded = config.load(path, {}, {})
        assert [loaded.socket_group, loaded.admin_group, loaded.courier_group] == [group, *groups[1:]]
        assert loaded.max_connections_per_user == 16


# --- licd(8) ------------------------------------------------------------------------------------------------

LICD = source("licd.8")


def test_the_manual_lists_exactly_the_options_of_licd() -> None:
    entries = {item.head for item in with_macro(section(LICD, "OPTIONS"), "Fl")}
    assert entries == {head(action) for action in main._parser()._actions}


def test_the_manual_lists_exactly_the_exit_statuses_of_licd() -> None:
    traceback, usage = 1, 2  # Python's, and argparse's
    codes = (main.DONE, traceback, usage, main.FAULT, main.NO_SOCKET, main.JOURNAL_FAILED, main.LOCKED, main.BAD_CONFIG)
    assert [item.head for item in items(section(LICD, "EXIT STATUS"))] == [str(code) for code in codes]


def test_the_manual_lists_exactly_the_environment_that_licd_reads() -> None:
    read = {"NOTIFY_SOCKET"}  # by sdnotify
    for module in Path(notify.__file__).parent.glob("*.py"):
        read |= set(re.findall(r'"([A-Z]+_[A-Z_]+)"', module.read_text("utf-8")))
    read -= {state.DEVICE_CHANGED, state.RENEWAL_DUE}
    entries = with_macro(section(LICD, "ENVIRONMENT"), "Ev")
    assert {name for item in entries for name in item.head.split(", ")} == read


def test_the_manual_lists_exactly_the_signals_that_licd_catches() -> None:
    caught = set(re.findall(r"signal\.(SIG\w+)", Path(main.__file__).read_text("utf-8")))
    entries = with_macro(section(LICD, "SIGNALS"), "Dv")
    assert {name for item in entries for name in item.head.split(", ")} == caught


def test_the_manual_lists_the_default_paths_of_licd() -> None:
    paths = {item.head.rstrip("/") for item in with_macro(section(LICD, "FILES"), "Pa")}
    default = config.Config()
    assert {str(each) for each in (config.DEFAULT_PATH, default.state, default.socket, default.vendors)} <= paths


def test_the_manual_explains_exactly_the_states_of_the_clock() -> None:
    states = clock.State.__args__  # type: ignore[attr-defined]  # typeshed does not know that of a Literal
    assert [item.head for item in with_macro(section(LICD, "DESCRIPTION"), "Li")] == list(states)


# --- licd-cli(1) --------------------------------------------------------------------------------------------

CLI = section(source("licd-cli.1"), "DESCRIPTION")


def general_options() -> set[str]:
    return {head(action) for action in cli._parser()._actions if action.option_strings}


def test_the_manual_lists_exactly_the_general_options_of_licd_cli() -> None:
    assert {item.head for item in with_macro(section(CLI, "General options"), "Fl")} == general_options()


def test_the_manual_lists_exactly_the_commands_of_licd_cli_with_their_options() -> None:
    documented = {}
    for item in with_macro(section(CLI, "Commands"), "Cm"):
        words = re.match(r"[a-z]+(-[a-z]+)*( [a-z]+(-[a-z]+)*)*(?= |$)", item.head)
        assert words is not None
        options = {option.head for option in items(item.lines)}
        rest = item.head.removeprefix(words[0]).replace("...", "")
        for option in options:  # in the head by its first name
            rest = rest.replace(re.sub(r",.*?(?= [A-Z]|$)", "", option), "", 1)
        assert "-" not in rest
        documented[words[0]] = (options, rest.split())
    expected = {}
    for name, parser in commands(cli._parser()).items():
        own = [action for action in parser._actions if action.option_strings and head(action) not in general_options()]
        own += [action for action in parser._actions if action.dest == "for_version"]
        operands = [
            str(action.metavar) for action in parser._actions if not action.option_strings and action.dest != "action"
        ]
        expected[name] = ({head(action) for action in own}, operands)
    assert documented == expected


def test_the_manual_lists_exactly_the_exit_statuses_of_licd_cli() -> None:
    names = ("DONE", "REFUSED", "USAGE", "UNREACHABLE", "FAULT", "INTERRUPTED", "UNREAD")
    found = [item.head for item in items(section(source("licd-cli.1"), "EXIT STATUS"))]
    assert found == [str(getattr(problems, name)) for name in names]
    assert found == re.findall(r"(?m)^  (\d+) ", problems.EXIT_STATUS)

"""licd-vendor(1) against the command, in both directions: options, descriptions, what init makes, what show says."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from licd.license import lines
from licd.license.document import KINDS
from licd.license.renewal import Usage
from licd.rpc import errors
from licd_vendor import codes, keys, main, problems, serve, sign, written
from licd_vendor.keys import Failure
from tests.support.books import Books, Machine
from tests.support.mdoc import Item, items, listed, plain, section, source, subsections, text, with_macro
from tests.support.wording import brief, commands, head, member_is, value_of

PAGE = source("licd-vendor.1")
PARSER = main._parser()
COMMANDS = commands(PARSER)
BODIES = subsections(section(PAGE, "COMMANDS"))


# --- the command line ---------------------------------------------------------------------------------------


def options(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """All but -h, which every command has."""
    return [action for action in parser._actions if action.option_strings and action.dest != "help"]


def options_listed(body: Iterable[str]) -> dict[str, Item]:
    return {item.head: item for item in with_macro(body, "Fl")}


def test_the_manual_lists_exactly_the_options_without_a_command() -> None:
    listed_here = set(options_listed(section(PAGE, "DESCRIPTION")))
    assert listed_here == {head(action) for action in PARSER._actions if action.option_strings}


def test_the_manual_lists_exactly_the_commands() -> None:
    assert list(BODIES) == list(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_manual_lists_exactly_the_options_of_a_command_with_their_defaults(command: str) -> None:
    found = {}
    for name, item in options_listed(BODIES[command]).items():
        defaults = [line for line in item.lines if line.startswith("Default: ")]
        found[name] = ("Required." in item.lines, defaults)
    expected = {}
    for action in options(COMMANDS[command]):
        given = action.nargs != 0 and action.default is not None
        expected[head(action)] = (action.required, [f"Default: {action.default}."] if given else [])
    assert found == expected


def synopsis() -> dict[str, tuple[set[str], set[str], list[str]]]:
    """Of each command: what is required, what is in brackets, the options before it too, and the operands in order."""
    found: dict[str, tuple[set[str], set[str], list[str]]] = {}
    before: list[str] = []
    name: str | None = None
    for line in section(PAGE, "SYNOPSIS"):
        if line == ".Nm":
            before, name = [], None
        elif line.startswith(".Cm "):
            name = line[4:]
            found[name] = (set(), {plain(each[1:]) for each in before}, [])
        elif name is None:
            before.append(line)
        else:
            required, optional, operands = found[name]
            if line.startswith(".Op "):
                optional.add(plain(line[1:]))
            elif line.startswith(".Fl "):
                required.add(plain(line[1:]))
            else:
                operands.append(plain(line[1:]))
    return found


NEED_NO_STORE = ("init", "sign", "show")
NEED_ONLY_THE_FOLDER = ("signer new", "withdraw")
BEFORE = {action.dest: brief(action) for action in PARSER._actions if action.dest in ("dir", "database")}


def test_the_synopsis_is_the_command_line_that_the_parser_takes() -> None:
    expected = {}
    for name, parser in COMMANDS.items():
        alternatives = [group._group_actions for group in parser._mutually_exclusive_groups]
        alone = [[each] for each in options(parser) if not any(each in group for group in alternatives)]
        operands = [action for action in parser._actions if not action.option_strings]
        optional = {" | ".join(map(brief, group)) for group in [*alone, *alternatives] if not group[0].required}
        optional |= {value_of(action) for action in operands if action.nargs == "?"}
        expected[name] = (
            {brief(action) for (action,) in alone if action.required},
            optional | before(name),
            [value_of(action) for action in operands if action.nargs != "?"],
        )
    assert synopsis() == expected


def before(command: str) -> set[str]:
    """The options that stand before this command."""
    if command in NEED_NO_STORE:
        return set()
    return {BEFORE["dir"]} if command in NEED_ONLY_THE_FOLDER else set(BEFORE.values())


def test_the_manual_lists_exactly_the_exit_statuses() -> None:
    found = [item.head for item in items(section(PAGE, "EXIT STATUS"))]
    assert found == [str(code) for code in (main.DONE, main.REFUSED, main.USAGE)]
    assert found == re.findall(r"(\d) \w", str(PARSER.epilog).split(". See")[0])


# --- the description file -----------------------------------------------------------------------------------

DESCRIPTION = section(PAGE, "DESCRIPTION FILE")
FILE = {item.head: listed(item) for item in with_macro(section(DESCRIPTION, "File"), "Va")}
LICENSE = {item.head: listed(item) for item in with_macro(section(DESCRIPTION, "License"), "Va")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vendor's folder, as init makes it."""
    made = tmp_path_factory.mktemp("vendor") / "acme"
    mask = os.umask(0o022)
    try:
        keys.init(made, "acme", ["kso.*"], url=None, kind="p256", passphrase=None)
    finally:
        os.umask(mask)
    return made


def described(path: Path, value: object) -> dict[str, Any]:
    path.write_text(json.dumps(value))
    return sign.read_description(path)


def records(folder: Path, tmp_path: Path, description: object, *more: str) -> Any:
    """The documents of a file signed from the description, as `show --json` prints them."""
    (tmp_path / "d.json").write_text(json.dumps(description))
    printed = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()):
        assert main.main(["sign", str(folder), str(tmp_path / "d.json"), "-o", str(tmp_path / "f.licd")]) == 0
    with contextlib.redirect_stdout(printed):
        assert main.main(["show", str(tmp_path / "f.licd"), "--json", *more]) == 0
    return json.loads(printed.getvalue())["documents"]


def test_the_manual_lists_exactly_the_members_of_a_description_with_type_and_bounds() -> None:
    checks = {name: member_is(lines._FILE[name]) for name in sign._FILE}
    expected = {**checks, "licenses": "An array of objects with the members below."}
    assert {name: what for name, (what, _) in FILE.items()} == expected


def test_the_manual_lists_exactly_the_members_of_a_license_with_type_and_bounds() -> None:
    expected = {name: member_is(lines._LICENSE[name]) for name in sign._LICENSE}
    assert {name: what for name, (what, _) in LICENSE.items()} == expected


def test_what_the_manual_lists_is_read_and_nothing_else(tmp_path: Path) -> None:
    whole = {**dict.fromkeys(FILE, 1), "licenses": [dict.fromkeys(LICENSE, 1)]}
    assert described(tmp_path / "d.json", whole) == whole
    with pytest.raises(Failure, match="'color', which is unknown"):
        described(tmp_path / "d.json", {**whole, "color": 1})
    with pytest.raises(Failure, match="'color', which is unknown"):
        described(tmp_path / "d.json", {**whole, "licenses": [{"name": "kso.a", "color": 1}]})


def test_exactly_what_the_manual_says_is_required_may_not_be_left_out(tmp_path: Path) -> None:
    def is_read(value: object) -> bool:
        with contextlib.suppress(Failure):
            return bool(described(tmp_path / "d.json", value))
        return False

    file: dict[str, Any] = {**dict.fromkeys(FILE, 1), "licenses": []}
    assert [name for name in FILE if not is_read({k: v for k, v in file.items() if k != name})] == required(FILE)
    license = dict.fromkeys(LICENSE, 1)
    without = {name: {k: v for k, v in license.items() if k != name} for name in LICENSE}
    assert [name for name in LICENSE if not is_read({**file, "licenses": [without[name]]})] == required(LICENSE)


def required(entries: dict[str, tuple[str, str]]) -> list[str]:
    return [name for name, (_, default) in entries.items() if default == "Required."]


def test_what_a_description_leaves_out_is_signed_with_the_manual_s_default(folder: Path, tmp_path: Path) -> None:
    licenses = [{"name": "kso.a"}, {"name": "kso.b", "license": "uncounted"}]
    (document,) = records(folder, tmp_path, {"seq": 1, "licenses": licenses})
    file, counted, uncounted = document["lines"]
    assert defaults(FILE, file) == {name: default for name, (_, default) in FILE.items() if default != "Required."}
    assert LICENSE["seats"][1] == f"Default: {counted['seats']} if counted, null if uncounted."
    assert uncounted["seats"] is None
    stated = {name: default for name, (_, default) in LICENSE.items() if default != "Required." and name != "seats"}
    assert {name: each for name, each in defaults(LICENSE, counted).items() if name != "seats"} == stated


def defaults(entries: dict[str, tuple[str, str]], record: dict[str, Any]) -> dict[str, str]:
    """What the record has for each entry that is not required, as the manual says it."""

    def shown(name: str) -> str:
        if name == "id":
            return "a new one" if len(record["id"]) == 36 else record["id"]
        if name not in record:
            return "left out"
        value = record[name]
        return value if type(value) is str and value else json.dumps(value)

    return {name: f"Default: {shown(name)}." for name, (_, default) in entries.items() if default != "Required."}


# --- files and output ---------------------------------------------------------------------------------------


def test_the_manual_lists_exactly_the_files_that_init_makes_with_their_modes(folder: Path) -> None:
    found = {}
    for path in (folder, *folder.rglob("*")):
        name = f"DIR/{path.relative_to(folder)}".removesuffix(".") + "/" * (path.is_dir() and path != folder)
        found[name] = f"Mode {stat.S_IMODE(path.stat().st_mode):04o}"
    del found["DIR/profile/anchors/"]  # in the name of the file in it
    entries = {item.head: item.lines[0] for item in with_macro(section(PAGE, "FILES"), "Pa")}
    assert entries.pop("DIR/") == f"{found.pop('DIR/')}, if it was not there before."
    assert entries.pop("DIR/vendor.db") == "Mode 0600."  # test_orders.py
    later = [entries.pop(name) for name in ("DIR/signer-SERIAL.pem", "DIR/profile/withdrawn.licd")]
    assert later == ["Mode 0644."] * 2  # the next test
    assert entries == {name: f"{mode}." for name, mode in found.items()}


def test_a_new_signer_and_a_withdrawal_leave_the_files_that_the_manual_lists(tmp_path: Path) -> None:
    books = Books(tmp_path)
    before = set(books.dir.rglob("*"))
    mask = os.umask(0o022)
    try:
        assert books.run("signer", "new") == 0
        (old,) = books.dir.glob("signer-*.pem")
        assert books.run("withdraw", old) == 0
    finally:
        os.umask(mask)
    made = {
        path.relative_to(books.dir): stat.S_IMODE(path.stat().st_mode) for path in set(books.dir.rglob("*")) - before
    }
    assert made == {old.relative_to(books.dir): 0o644, Path("profile/withdrawn.licd"): 0o644}


def test_the_manual_lists_exactly_the_kinds_of_document_that_show_prints() -> None:
    (entry,) = [item for item in with_macro(BODIES["show"], "Va") if item.head == "kind"]
    assert set(re.findall(r"[a-z-]+", entry.text)) - {"or"} == {kind for kind in KINDS if kind != "license"}


def test_keys_have_their_mode_under_any_umask_and_a_folder_that_was_there_keeps_its_own(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    mask = os.umask(0)
    try:
        keys.init(tmp_path, "acme", ["kso.*"], url=None, kind="p256", passphrase=None)
    finally:
        os.umask(mask)
    modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("root.key", "signer.key", "")}
    assert modes == {"root.key": 0o600, "signer.key": 0o600, "": 0o755}


def test_signing_needs_what_the_manual_says_and_neither_key_nor_certificate_of_the_root(
    folder: Path, tmp_path: Path
) -> None:
    moved = ("root.key", "root.pem")
    for name in moved:
        (folder / name).rename(tmp_path / name)
    try:
        assert records(folder, tmp_path, {"seq": 1, "licenses": []})
    finally:
        for name in moved:
            (tmp_path / name).rename(folder / name)


def test_the_manual_lists_exactly_the_members_that_show_prints_as_json(folder: Path, tmp_path: Path) -> None:
    profile = ("--profile", str(folder / "profile"))
    (document,) = records(folder, tmp_path, {"seq": 1, "licenses": []}, *profile)
    body = options_listed(BODIES["show"])["--json"].lines
    assert [item.head for item in with_macro(body, "Va")] == list(document)
    assert (document["verified"], document["note"]) == (True, None)
    assert records(folder, tmp_path, {"seq": 1, "licenses": []})[0]["signer_expires"] is None


def test_the_manual_lists_exactly_the_members_that_an_order_may_have() -> None:
    (sentence,) = re.findall(r"That of an order has only the members (.*?) of a file", text(DESCRIPTION))
    assert set(re.findall(r"\w+", sentence)) - {"and"} == {*sign.ORDER_MEMBERS, "licenses"}


def test_the_manual_lists_exactly_the_members_that_a_license_on_the_command_line_may_have() -> None:
    words = text(options_listed(BODIES["order new"])["--license LICENSE"].lines)
    (sentence,) = re.findall(r"with the members (.*?) of a description", words)
    (renewal,) = re.findall(r"and with (.*?) as in --renewal", words)
    members, own = (set(re.findall(r"\w+", each)) - {"and"} for each in (sentence, renewal))
    assert members | own == written._MEMBERS.keys()
    assert own == {"renewal", "every", "grace"}


def test_the_manual_lists_exactly_the_members_that_may_become_none() -> None:
    words = text(options_listed(BODIES["order set"])["--license CHANGE"].lines)
    (sentence,) = re.findall(r"but id\. (.*?) may be none", words)
    assert set(re.findall(r"\w+", sentence)) - {"and"} == written._NONE


def test_the_manual_lists_exactly_the_members_that_the_store_s_commands_print_as_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    books = Books(tmp_path)
    number = books.order()
    file = books.issue(Machine(1).request(books.ask(number)))
    books.code(number, capsys)
    books.renew(Machine(1).renewal(file, usage=Usage("2026-09-21", {"kso.scan": [2]})))  # under another key: an alarm
    row = books.json(capsys, "order", "list")["orders"][0]
    whole = books.json(capsys, "order", "show", number)
    shown = {
        "order list": list(row),
        "code list": list(books.json(capsys, "code", "list", number)["codes"][0]),
        "order show": [name for name in whole if name not in row],
        "history": list(books.json(capsys, "history")["documents"][0]),
        "alarm list": list(books.json(capsys, "alarm", "list")["alarms"][0]),
        "usage": list(books.json(capsys, "usage")["usage"][0]),
    }
    found = {name: [item.head for item in with_macro(json_of(name), "Va")] for name in shown}
    assert found == shown
    assert set(whole["licenses"][0]) == set(LICENSE)
    assert set(whole) > set(row)


def json_of(command: str) -> Iterable[str]:
    return options_listed(BODIES[command])["--json"].lines


def test_the_manual_lists_exactly_the_environment_s_variables() -> None:
    used = set()
    for path in Path(main.__file__).parent.glob("*.py"):
        used |= set(re.findall(r"\bLICD_[A-Z_]+", path.read_text("utf-8")))
    assert {item.head for item in with_macro(section(PAGE, "ENVIRONMENT"), "Ev")} == used


def test_the_manual_names_the_refusals_of_issue_as_the_catalogue_does() -> None:
    named = set(re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b", text(BODIES["issue"])))
    of_the_vendor = {error.name for error in errors.CATALOGUE.values() if error.code // 10 == 7}
    assert named == of_the_vendor - {"NO_SUCH_ORDER", *OF_THE_SERVER} | {"BAD_SIGNATURE"}


OF_THE_SERVER = {"UNKNOWN_CODE", "CODE_USED", "TOO_MANY_TRIES"}


def test_the_manual_lists_exactly_the_problems_of_the_server_with_their_status() -> None:
    found = [item.head for item in items(BODIES["serve"]) if item.head[0].isdigit()]
    own = [problems.ASK_VENDOR, problems.UNAVAILABLE, problems.UNKNOWN_LICENSE_FILE, problems.SERVER_ERROR]
    expected = [f"{status} {error.name}" for error, (status, _) in problems._STATUS.items()]
    assert sorted(found) == sorted([*expected, *(f"{each.status} {each.name}" for each in own)])


def test_the_manual_names_exactly_the_paths_methods_and_media_types_of_the_server(tmp_path: Path) -> None:
    books = Books(tmp_path)
    rules = books.web().client.application.url_map.iter_rules()
    expected = {f"{method} URL{rule.rule}" for rule in rules for method in (rule.methods or set()) - {"HEAD"}}
    assert {item.head for item in items(BODIES["serve"]) if " URL/" in item.head} == expected
    types = {serve.CODE, serve.INSTALL_REQUEST, serve.LICENSE_REQUEST, serve.LICENSE_FILE}
    types |= {serve.RENEWAL_REQUEST, serve.RENEWAL_ANSWER}
    assert set(re.findall(r"application/vnd[a-z.-]+[a-z]", text(BODIES["serve"]))) == types


def test_the_manual_has_the_server_s_limits() -> None:
    words = text(BODIES["serve"])
    tries = f"{codes.MAX_OF_AN_ADDRESS} wrong codes from this address within ten minutes, or {codes.MAX_OF_ALL} from"
    assert tries in words
    assert f"{serve.MAX_REQUEST_BYTES // 1024} KiB at most, a code {serve.MAX_CODE_BYTES} bytes" in words
    assert serve.MAX_BODY_BYTES == (1024 + 64) * 1024
    assert "a renewal request 1 MiB and 64 KiB" in words

"""licd.daemon.config: every key and its bounds, and for each mistake the file, the line and what to do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from licd.daemon import config
from licd.daemon.config import Config, ConfigError
from tests.support.needs import needs_root

NO_FLAGS: dict[str, Path | None] = {"state": None, "socket": None, "vendors": None}
GROUP, OTHER_GROUP = "daemon", "games"  # base-passwd: on every Debian
INTEGERS = {
    "journal_size": (262_144, 1_073_741_824),
    "max_ttl": (10, 604_800),
    "max_leases": (1, 2_000_000),
    "max_connections": (8, 100_000),
    "max_connections_per_user": (1, 100_000),
}


@pytest.fixture(autouse=True)
def no_installed_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "DEFAULT_PATH", tmp_path / "etc" / "licd.conf")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "licd.conf"


def load(
    path: Path | None = None, flags: Mapping[str, Path | None] = NO_FLAGS, environment: Mapping[str, str] | None = None
) -> Config:
    return config.load(path, flags, environment or {})


def refusal(file: Path, text: str | bytes) -> str:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ConfigError) as caught:
        load(file)
    return str(caught.value)


# --- defaults, and who wins ----------------------------------------------------------------------------------


def test_without_file_flags_and_environment_everything_has_its_default() -> None:
    assert load() == Config(
        state=Path("/var/lib/licd"),
        socket=Path("/run/licd/licd.sock"),
        socket_mode=0o660,
        socket_group=None,
        admin_group=None,
        courier_group=None,
        vendors=Path("/etc/licd/vendor.d"),
        journal_size=4 * 1024 * 1024,
        max_ttl=3600,
        max_leases=200_000,
        max_connections=1024,
        max_connections_per_user=64,
    )


@pytest.mark.parametrize("text", ["", "\n# nothing\n; nothing\n", "[licd]\n", "[licd]\n# max_ttl = 5\n"])
def test_a_file_that_sets_nothing_changes_nothing(file: Path, text: str) -> None:
    file.write_text(text)
    assert load(file) == load()


def test_every_key_of_the_file_is_taken(file: Path) -> None:
    values = {
        "state": "/s", "socket": "/r/l.sock", "socket_mode": "0600", "socket_group": GROUP, "admin_group": GROUP,
        "courier_group": OTHER_GROUP,
        "vendors": "/v", "journal_size": "1048576", "max_ttl": "120", "max_leases": "10", "max_connections": "20",
        "max_connections_per_user": "5",
    }  # fmt: skip
    assert set(values) == set(Config._fields)
    file.write_text("[licd]\n" + "".join(f"{key} = {value}\n" for key, value in values.items()))
    assert load(file) == Config(
        Path("/s"), Path("/r/l.sock"), 0o600, GROUP, GROUP, OTHER_GROUP, Path("/v"), 1_048_576, 120, 10, 20, 5
    )


def test_a_flag_wins_over_the_file_the_file_over_the_environment_and_that_over_the_default(file: Path) -> None:
    environment = {"STATE_DIRECTORY": "/env/state", "RUNTIME_DIRECTORY": "/env/run"}
    assert load(None, NO_FLAGS, environment).state == Path("/env/state")
    assert load(None, NO_FLAGS, environment).socket == Path("/env/run/licd.sock")
    file.write_text("[licd]\nstate = /file/state\nsocket = /file/s\nvendors = /file/v\n")
    from_file = load(file, NO_FLAGS, environment)
    assert (from_file.state, from_file.socket, from_file.vendors) == (
        Path("/file/state"),
        Path("/file/s"),
        Path("/file/v"),
    )
    flags = {"state": Path("/flag/state"), "socket": Path("/flag/s"), "vendors": Path("/flag/v")}
    from_flags = load(file, flags, environment)
    assert (from_flags.state, from_flags.socket, from_flags.vendors) == tuple(flags.values())


def test_one_flag_leaves_the_other_settings_of_the_file_alone(file: Path) -> None:
    file.write_text("[licd]\nstate = /file/state\nmax_ttl = 77\n")
    loaded = load(file, {**NO_FLAGS, "socket": Path("/flag/s")})
    assert (loaded.state, loaded.socket, loaded.max_ttl) == (Path("/file/state"), Path("/flag/s"), 77)


def test_of_systemds_list_of_folders_the_first_is_ours() -> None:
    loaded = load(None, NO_FLAGS, {"STATE_DIRECTORY": "/a:/b", "RUNTIME_DIRECTORY": "/c:/d"})
    assert (loaded.state, loaded.socket) == (Path("/a"), Path("/c/licd.sock"))


def test_an_empty_variable_is_none() -> None:
    assert load(None, NO_FLAGS, {"STATE_DIRECTORY": "", "RUNTIME_DIRECTORY": ""}) == load()


def test_a_relative_flag_counts_from_where_licd_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert load(None, {**NO_FLAGS, "state": Path("s")}).state == tmp_path / "s"


# --- which file ----------------------------------------------------------------------------------------------


def test_the_installed_file_is_read_when_none_is_named() -> None:
    config.DEFAULT_PATH.parent.mkdir()
    config.DEFAULT_PATH.write_text("[licd]\nmax_ttl = 77\n")
    assert load().max_ttl == 77


def test_the_installed_file_is_not_read_when_another_is_named(file: Path) -> None:
    config.DEFAULT_PATH.parent.mkdir()
    config.DEFAULT_PATH.write_text("[licd]\nmax_ttl = 77\n")
    file.write_text("[licd]\n")
    assert load(file).max_ttl == 3600


def test_a_named_file_that_is_missing_is_an_error(file: Path) -> None:
    with pytest.raises(ConfigError, match="No such file") as caught:
        load(file)
    assert str(file) in str(caught.value)
    assert "--config" in str(caught.value)


def test_a_folder_in_place_of_the_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="directory"):
        load(tmp_path)


@needs_root
def test_an_installed_file_that_may_not_be_read_is_an_error_and_not_the_defaults() -> None:
    config.DEFAULT_PATH.parent.mkdir(mode=0o700)
    config.DEFAULT_PATH.write_text("[licd]\n")
    child = os.fork()
    if child == 0:
        status = 3
        try:
            os.setuid(65_533)
            load()
            status = 1
        except ConfigError:
            status = 0
        finally:
            os._exit(status)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# --- mistakes ------------------------------------------------------------------------------------------------


def test_an_unknown_key_is_refused_with_its_line(file: Path) -> None:
    assert refusal(file, "[licd]\n\n# a comment\nmax_tll = 5\n").startswith(f"{file}:4: unknown key max_tll")


def test_an_unknown_section_is_refused_with_its_line(file: Path) -> None:
    text = refusal(file, "[licd]\nmax_ttl = 60\n\n[Daemon]\nmax_ttl = 60\n")
    assert text.startswith(f"{file}:4: unknown section [Daemon]")
    assert "[licd]" in text


@pytest.mark.parametrize("section", ["DEFAULT", "LICD", "licd ", "a.b(c"])
def test_no_other_section_is_taken_for_licds(file: Path, section: str) -> None:
    assert f"{file}:1: unknown section [{section}]" in refusal(file, f"[{section}]\nmax_ttl = 60\n")


BAD: dict[str, list[str]] = {
    "state": ["", "state", "./state", "~/state"],
    "socket": ["", "licd.sock", "@licd"],
    "vendors": ["", "vendor.d"],
    "socket_mode": ["", "rw", "0888", "66", "01660", "1660", "0o660", "-660", "0660 # ours", "٠٦٦٠"],
    "socket_group": ["", "no-such-group", "0"],
    "admin_group": ["", "no-such-group", "1"],
    "courier_group": ["", "no-such-group", "1"],
    **{
        key: ["", "many", "-1", "+20", "1e3", "0x10", "20.0", "2_0", "20 s", "٢٠", "9" * 13, "9" * 5000,
              str(least - 1), str(most + 1)]
        for key, (least, most) in INTEGERS.items()
    },
}  # fmt: skip


def test_the_bad_values_here_cover_every_key() -> None:
    assert set(BAD) == set(config.READERS) == set(Config._fields)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, values in BAD.items() for value in values])
def test_a_bad_value_is_refused_with_file_line_and_key(file: Path, key: str, value: str) -> None:
    text = refusal(file, f"# licd.conf\n[licd]\n\n{key} = {value}\n")
    assert text.startswith((f"{file}:4: {key} must be ", f"{file}:4: {key} names a group that does not exist"))


@pytest.mark.parametrize("key", ["socket_group", "admin_group"])
@pytest.mark.parametrize("first", [True, False])
def test_couriers_have_a_group_of_their_own_or_clients_would_lose_their_seats(
    file: Path, key: str, first: bool
) -> None:
    lines = [f"courier_group = {GROUP}", f"{key} = {GROUP}"]
    text = refusal(file, "\n".join(["[licd]", *(lines if first else reversed(lines))]))
    assert text == (
        f"{file}:{2 if first else 3}: courier_group must be another group than {key}; couriers take no seats"
    )


@pytest.mark.parametrize("key", INTEGERS)
def test_the_bounds_of_a_number_themselves_are_taken(file: Path, key: str) -> None:
    for bound in INTEGERS[key]:
        file.write_text(f"[licd]\n{key} = {bound}\n")
        assert getattr(load(file), key) == bound


@pytest.mark.parametrize(
    ("value", "mode"), [("0660", 0o660), ("660", 0o660), ("0666", 0o666), ("000", 0), ("0777", 0o777)]
)
def test_a_mode_is_read_as_octal(file: Path, value: str, mode: int) -> None:
    file.write_text(f"[licd]\nsocket_mode = {value}\n")
    assert load(file).socket_mode == mode


def test_an_indented_key_is_refused_and_not_taken_for_a_part_of_the_path_before(file: Path) -> None:
    text = refusal(file, "[licd]\nstate = /s\n  max_ttl = 60\n")
    assert text.startswith(f"{file}:2: state must be an absolute path on one line")


def test_a_path_with_a_nul_byte_is_refused(file: Path) -> None:
    assert refusal(file, "[licd]\nstate = /s\x00t\n").startswith(f"{file}:2: state must be ")


def test_paths_may_have_blanks_percent_signs_and_letters_of_any_language(file: Path) -> None:
    file.write_text("[licd]\nstate = /srv/Касса 1/%h=x\n", encoding="utf-8")
    assert load(file).state == Path("/srv/Касса 1/%h=x")


@pytest.mark.parametrize(
    "text",
    ["[licd]\nmax_ttl = 60\nmax_ttl = 70\n", "[licd]\nmax_ttl = 60\nMAX_TTL = 70\n", "[licd]\n\n[licd]\n"],
    ids=["key", "key in capitals", "section"],
)
def test_what_stands_there_twice_is_refused_with_its_line(file: Path, text: str) -> None:
    reason = refusal(file, text)
    assert str(file) in reason
    assert "[line  3]" in reason
    assert "already exists" in reason


@pytest.mark.parametrize(
    "text", ["max_ttl = 60\n", "[licd]\nmax_ttl\n", "[licd\nmax_ttl = 60\n", "{}\n", "[]\nmax_ttl = 60\n", "\x00\n"]
)
def test_what_is_no_ini_file_is_refused_in_one_line(file: Path, text: str) -> None:
    reason = refusal(file, text)
    assert str(file) in reason
    assert "\n" not in reason


def test_a_file_that_is_not_utf8_is_refused(file: Path) -> None:
    reason = refusal(file, b"[licd]\nstate = /s\xff\n")
    assert str(file) in reason
    assert "utf-8" in reason


def test_the_line_of_a_mistake_is_that_of_an_editor_whatever_stands_in_comments(file: Path) -> None:
    assert refusal(file, "# a\u2028b\x0cc\x85\n[licd]\r\nmax_ttl = 1\r\n").startswith(f"{file}:3: max_ttl must be ")


def test_a_key_is_found_in_its_own_line_and_not_in_a_comment_or_a_longer_key(file: Path) -> None:
    text = refusal(file, "[licd]\n# max_connections = 1\nmax_connections_per_user = 1\n\nmax_connections : 1\n")
    assert text.startswith(f"{file}:5: max_connections must be ")


def test_a_configuration_cannot_be_changed_after_it_was_read() -> None:
    loaded: Any = load()
    with pytest.raises(AttributeError):
        loaded.max_ttl = 5

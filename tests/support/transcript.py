"""Shell sessions in the manual: read, really run, and compared where their output is the same every time.

    .venv/bin/python -m tests.support.transcript [man/licd-cli.1 ...]     writes the output anew, of all pages or these

A session's commands begin with "$ ", their further lines with "> ". It plays in /tmp/shop, which is a folder of its
own here. A command that ends in "&" starts licd; the next one waits until it serves.

What identifies the machine is that of tests/vectors/machines/server in the pages of ON_SERVER, so that a session shows
the same everywhere. That needs root and umockdev.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.support import machines, mdoc
from tests.support.https import web

CHECKOUT = Path(__file__).resolve().parents[2]
SESSIONS = (
    *("README.md", "man/licd.8", "man/licd-cli.1", "man/licd-license.5"),
    *("man/licd-rpc.7", "man/licd-vendor.1"),
)  # all pages that have some
ON_SERVER = ("README.md",)
SHOP = "/tmp/shop"  # as the manual calls the folder
TIMEOUT_S = 60
_MARK = "\x01"
_PIECES = (
    "status=$?",
    "case $last in *'&') until licd-cli hello >/dev/null 2>&1; do sleep 0.02; done ;; kill*) wait $! ;; esac",
    f"printf '{_MARK}'",
    "(exit $status)",
)

# Once for all pages: a vendor with its profile installed, and a license file.
PREPARE = r"""
licd-vendor init vendor --vendor acme --names 'kso.*'
mkdir vendor.d && cp -r vendor/profile vendor.d/acme
cat > licenses.json <<'END'
{"seq": 1, "licenses": [
  {"name": "kso.scan", "title": "Scanner", "seats": 3, "versions": "5.*", "expires": "2099-12-31"},
  {"name": "kso.report", "title": "Reports", "license": "uncounted"}]}
END
licd-vendor sign vendor licenses.json -o licenses.licd
"""

# For licd-cli(1): the same licenses from an order, bound to this device, to be renewed at the vendor's server. By the
# time they are in force the order has changed.
PREPARE_ONLINE = r"""
licd-vendor init vendor --vendor acme --names 'kso.*' --url https://127.0.0.1:PORT
echo ca = CA >> vendor/profile/vendor.conf
mkdir vendor.d && cp -r vendor/profile vendor.d/acme
export LICD_VENDOR_DIR=vendor
licd-vendor order new --customer c-17 --allow-weak --renewal required,every=30,grace=14 \
  --license kso.scan,title=Scanner,seats=3,versions=5.*,expires=2099-12-31 --license kso.report,title=Reports,uncounted
licd-vendor install-request new 1 -o install.licd
"""
ISSUE = r"""
licd-cli install-request import install.licd
licd-cli license-request export -o request.licd
licd-vendor issue request.licd -o licenses.licd
licd-vendor order set 1 --license kso.scan,seats=5
licd-vendor serve --listen 127.0.0.1:PORT --tls-cert CERT --tls-key KEY 2>/dev/null &
until (: < /dev/tcp/127.0.0.1/PORT) 2>/dev/null; do sleep 0.1; done
"""
VENDORS_HOST = "licenses.acme.example"  # as the manual calls that server


class Step(NamedTuple):
    command: str
    output: str


def steps(block: str) -> list[Step]:
    found: list[Step] = []
    for line in block.splitlines(keepends=True):
        if line.startswith("$ "):
            found.append(Step(line[2:], ""))
        elif line.startswith("> ") and found and not found[-1].output:
            found[-1] = found[-1]._replace(command=found[-1].command + line[2:])
        elif found:
            found[-1] = found[-1]._replace(output=found[-1].output + line)
    return found


def play(
    commands: Iterable[str], shop: Path, prepare: str = "", wrap: Sequence[str] = (), timeout_s: float = TIMEOUT_S
) -> list[str]:
    """What each command really prints. `prepare` runs before, in the folder; without it there is no folder yet.

    wrap: what goes before the shell that plays it
    Errors: subprocess.TimeoutExpired; nothing of what was started runs then, in the background neither
    """
    script = ["exec 2>&1", f"mkdir -p {shop} && cd {shop}" if prepare else "", prepare, f"printf '{_MARK}'"]
    for command in commands:
        lines = command.rstrip("\n")
        script += [f"last={_quoted(lines)}", f"(exit ${{status:-0}})\n{lines}", *_PIECES]
    script.append("kill $(jobs -p) 2>/dev/null; wait")
    with subprocess.Popen(
        [*wrap, "bash", "-c", "\n".join(script).replace(SHOP, str(shop))],
        cwd=shop.parent,
        env=environment(shop),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # so that all of it can be ended at once
    ) as playing:
        try:
            printed, _ = playing.communicate(timeout=timeout_s)
        except BaseException:
            os.killpg(playing.pid, signal.SIGKILL)
            raise
    printed = printed.replace(str(shop), SHOP)
    for pattern, words in _SYSTEM:
        printed = re.sub(pattern, words, printed)
    outputs = printed.split(_MARK)[1:-1]
    return [re.sub(r"(?m)^bash: line \d+: .*Killed .*\n", "", output) for output in outputs]


def environment(shop: Path) -> dict[str, str]:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return {
        "PATH": path,
        "LICD_SOCKET": str(shop / "licd.sock"),
        "HOME": str(shop.parent),
        "LC_ALL": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",  # sentences and hints in the order in which a terminal shows them
    }


def _quoted(text: str) -> str:
    return "'" + text.replace("'", r"'\''") + "'"


def on_server() -> Sequence[str]:
    """What goes before a command for it to see the factors of the machine `server`."""
    root = machines.folder("server") / "root"
    mounts = (f"mount --bind '{root / name}' '/{name}'" for name in ("proc/cpuinfo", "etc/machine-id"))
    return ("unshare", "--mount", "sh", "-c", f'{" && ".join(mounts)} && exec "$@"', "sh", *machines.wrap("server"))


# What differs from one machine to another and cannot be given to it.
_SYSTEM = (
    (
        r"(?<=asked by a )(?:physical machine|virtual machine|container)( \(\S+\))? with .*",
        "physical machine with debian 12 x86_64",
    ),
    (r"(?m)^(\x01?machine +)(?:physical|vm|container)( \(\S+\))?$", r"\1physical"),
    (r"\b127\.0\.0\.1:\d+", VENDORS_HOST),
)

# What differs from one time to another, in the order in which it is masked; before all that, ids.
_ID = r"\b(?:[0-9a-f]{24}|[0-9a-f]{32}|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})\b"
_MASKS = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME"),
    (r"(?:(?<=until )|(?<=since )|(?<= on )|(?<=through )|(?<=renewal due ))(?!2099)\d{4}-\d\d-\d\d", "DATE"),
    (r"(?m)^(ID\d+ \S+ \S+ \d+) \d+ \d+ \S+ TIME", r"\1 UID PID UNIT TIME"),
    (r"\b\d+ (s|min|h|d)( \d+ (s|min|h))?\b", "SPAN"),
    (r"(?<=serial )[0-9a-f]+|(?<=signer-)[0-9a-f]+(?=\.pem)", "SERIAL"),
)


def masked(text: str) -> str:
    """The text without what differs from one time to another; the same id gets the same mask."""
    ids: dict[str, str] = {}
    text = re.sub(_ID, lambda match: ids.setdefault(match[0], f"ID{len(ids)}"), text)
    text = "\n".join(re.sub(" +", " ", line).rstrip() for line in text.splitlines())
    for pattern, mask in _MASKS:
        text = re.sub(pattern, mask, text)
    return text


def blocks(page: Path) -> list[str]:
    """The sessions of a page: of README.md its console blocks, of a manual page the displays of EXAMPLES."""
    if page.suffix == ".md":
        found = re.findall(r"(?ms)^```console\n(.*?)^```$", page.read_text("utf-8"))
    else:
        found = list(mdoc.displays(mdoc.section(mdoc.source(page.name), "EXAMPLES")))
    return [block for block in found if block.startswith("$ ")]


def prepared(page: Path) -> str:
    """What has happened before the sessions of a page begin."""
    name = page.name
    if name in ("README.md", "licd-license.5", "licd-vendor.1"):
        return "" if name == "README.md" else ":"
    if name == "licd-cli.1":
        return _online(PREPARE_ONLINE + _START + ISSUE)
    return PREPARE + _START + _IMPORT + ("kill $!; wait $!\n" if name == "licd.8" else "")


def _online(script: str) -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    there = {"PORT": port, "CERT": web().certificate, "KEY": web().key, "CA": web().ca_file}
    return re.sub(rf"\b({'|'.join(there)})\b", lambda match: str(there[match[0]]), script)


_START = """
licd --state state --socket licd.sock --vendors vendor.d 2>/dev/null &
until licd-cli hello >/dev/null 2>&1; do sleep 0.02; done
"""
_IMPORT = "licd-cli license import licenses.licd\n"


def play_page(page: Path) -> list[tuple[Step, str]]:
    """Each command of a page, as it stands there and with what it really printed. One session after another."""
    found = [step for block in blocks(page) for step in steps(block)]
    with tempfile.TemporaryDirectory(prefix="licd-") as folder:
        wrap = on_server() if page.name in ON_SERVER else ()
        printed = play((step.command for step in found), Path(folder) / "shop", prepared(page), wrap)
    return list(zip(found, printed, strict=True))


def renew(page: Path) -> None:
    """The sessions of the page show what their commands really print."""
    text = page.read_text("utf-8")

    def escape(text: str) -> str:
        return text if page.suffix == ".md" else text.replace("\\", r"\e")

    played = iter(play_page(page))
    old = blocks(page)
    new = []
    for block in old:
        shown = ""
        for step in steps(block):
            command = step.command.rstrip("\n").replace("\n", "\n> ")
            shown += f"$ {command}\n{next(played)[1]}"
        new.append(shown)
    if masked("".join(new)) == masked("".join(old)):
        return
    for before, after in zip(old, new, strict=True):  # all of them: what has an id in one has it in the others
        assert escape(before) in text, before
        text = text.replace(escape(before), escape(after), 1)
    page.write_text(text, "utf-8")


if __name__ == "__main__":
    for name in sys.argv[1:] or SESSIONS:
        renew(CHECKOUT / name)

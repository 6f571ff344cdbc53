"""A real systemd as process 1, in a container that sees this machine's own files through an overlay.

    with Machine() as machine:                       # booted, a third of a second
        machine.put(deb, "/root/licd.deb")
        machine.run("dpkg", "--install", "/root/licd.deb")
        assert machine.systemctl("is-active", "licd.socket") == "active"

What is written there is in memory and gone with it. Nothing stays behind, neither a mount nor a process nor a control
group: not after a failed test, Ctrl-C, or kill -9 of the tests either, for then the script that holds it all ends.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Self

BOOT_S = 60.0  # a third of a second on an idle machine

# In a mount namespace of its own, so the mounts go with it. systemd gets a pure cgroup2, and there a group of its own.
_OVERLAY = """
set -eu
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work overlay /mnt/root
umount --recursive /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
"""
_BOOT = (
    _OVERLAY
    + """
group=/sys/fs/cgroup/$1
root=/mnt/root
mkdir "$group"
over() {
    trap '' TERM INT HUP
    echo 1 >"$group/cgroup.kill"
    while [ -d "$group" ]; do
        find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || sleep 0.02
    done
}
trap over EXIT
trap 'exit 1' TERM INT HUP
# The host's services stay out: what a target wants by /etc, and what this container has no use for.
find "$root/etc/systemd/system" -mindepth 1 -maxdepth 1 -name '*.wants' -exec rm -r {} +
for unit in getty.target console-getty.service systemd-logind.service systemd-udevd.service \
    systemd-udevd-control.socket systemd-udevd-kernel.socket systemd-udev-trigger.service systemd-networkd.service \
    systemd-resolved.service systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer fstrim.timer man-db.timer logrotate.timer systemd-tmpfiles-clean.timer; do
    ln -sf /dev/null "$root/etc/systemd/system/$unit"
done
# nspawn refuses to ask whether the clock is synchronized, together with setting it: allowed again below.
# It empties /tmp by itself, and /var/tmp as told.
rm -f "$root/usr/sbin/policy-rc.d" # an image for containers forbids packages to start anything
boot() {
    sh -c 'echo $$ >"$1/cgroup.procs"; shift; exec "$@"' sh "$group" \
        systemd-nspawn --quiet --boot --directory="$root" --register=no --keep-unit --private-network --console=pipe \
        --machine="$1" --link-journal=no --tmpfs=/var/tmp:mode=1777 --system-call-filter='adjtimex clock_adjtime' \
        </dev/null &
    wait $!
}
status=133 # what nspawn ends with if it is to boot again
while [ "$status" = 133 ]; do
    boot "$1" && status=0 || status=$?
done
exit "$status"
"""
)


def why_not() -> str | None:
    """Why no container can be had here."""
    if os.geteuid() != 0:
        return "needs root, to boot a systemd in a container"
    if shutil.which("systemd-nspawn") is None:
        return "needs systemd-nspawn (Debian: systemd-container)"
    tried = subprocess.run([*_UNSHARE, _OVERLAY], capture_output=True, text=True, check=False)
    return f"no container can be had here: {tried.stderr.strip()}" if tried.returncode else None


_UNSHARE = ("unshare", "--mount", "--propagation", "private", "--", "sh", "-c")


class Machine:
    """A machine that has booted. Paths are those inside."""

    def __init__(self) -> None:
        self.name = f"licd-test-{os.getpid()}-{time.monotonic_ns() % 1_000_000}"
        self._process: subprocess.Popen[str] | None = None
        self.leader = 0  # its process 1, as seen from here

    def __enter__(self) -> Self:
        # The script is told when the tests end, however they do (PR_SET_PDEATHSIG), and Ctrl-C is for us only.
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "TERM", *_UNSHARE, _BOOT, "sh", self.name],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            self._wait_for_boot()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> None:
        """Nothing of it is there any more."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        self._process.communicate()

    def reboot(self) -> None:
        """It has been shut down and has booted again, with the same files. Errors: AssertionError"""
        before = self.leader
        self.systemctl("--no-block", "reboot")
        until = time.monotonic() + BOOT_S
        while Path(f"/proc/{before}").exists():
            assert time.monotonic() < until, "the container does not shut down"
            time.sleep(0.02)
        self.leader = 0
        self._wait_for_boot()

    # --- inside ----------------------------------------------------------------------------------------------

    def run(self, *command: object, check: bool = True, timeout_s: float = 60.0) -> str:
        """What root's command printed, on both streams.

        Errors: AssertionError with that, if it fails and check is true
        """
        done = self.popen(*command)
        try:
            output, _ = done.communicate(timeout=timeout_s)
        except BaseException:
            done.kill()
            raise
        assert not check or done.returncode == 0, f"{command} ended with {done.returncode}:\n{output}"
        return output.strip()

    def popen(self, *command: object) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*self._inside(), *map(str, command)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"},
        )

    def systemctl(self, *words: object) -> str:
        """What it says, also where it fails: is-active says "failed" with a status of its own."""
        return self.run("systemctl", "--no-pager", *words, check=False)

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        lines = self.systemctl("show", unit, *(f"--property={name}" for name in names)).splitlines()
        return dict(line.partition("=")[::2] for line in lines)

    def journal(self, unit: str, *words: object) -> list[str]:
        """The unit's own messages so far, oldest first; before each its priority: "6 stopped"."""
        self.run("journalctl", "--sync")
        fields = "--output-fields=PRIORITY,MESSAGE"
        output = self.run("journalctl", "--quiet", f"_SYSTEMD_UNIT={unit}", "--output=export", fields, *words)
        entries = [dict(line.partition("=")[::2] for line in each.splitlines()) for each in output.split("\n\n")]
        return [f"{entry['PRIORITY']} {entry['MESSAGE']}" for entry in entries if "MESSAGE" in entry]

    def path(self, inside: str) -> Path:
        """The same file, as seen from here."""
        return Path(f"/proc/{self.leader}/root{inside}")

    def put(self, data: str | bytes | Path, inside: str) -> None:
        target = self.path(inside)
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(data, Path):
            shutil.copyfile(data, target)
        else:
            target.write_bytes(data.encode() if isinstance(data, str) else data)

    def _inside(self) -> Sequence[str]:
        namespaces = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wdns=/root")
        return ("nsenter", f"--target={self.leader}", *namespaces, "--")

    def _wait_for_boot(self) -> None:
        assert self._process is not None
        until = time.monotonic() + BOOT_S
        state = "no process 1 yet"
        while time.monotonic() < until and self._process.poll() is None:
            self.leader = self.leader or _first_of_a_namespace(self._process.pid)
            if self.leader:
                state = self.systemctl("is-system-running")
                if state in ("running", "degraded"):
                    return
            time.sleep(0.02)
        self._process.terminate()
        output, _ = self._process.communicate()
        raise AssertionError(f"the container did not boot ({state}):\n{output}")


def _first_of_a_namespace(pid: int) -> int:
    """The process below this one that is the first of a pid namespace; 0 if there is none yet."""
    for child in _children(pid):
        try:
            status = Path(f"/proc/{child}/status").read_text()
        except OSError:
            continue
        numbers = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
        found = child if len(numbers) > 1 and numbers[-1] == "1" else _first_of_a_namespace(child)
        if found:
            return found
    return 0


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []

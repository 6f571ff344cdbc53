"""How this device compares with the one that a license file is bound to, and what follows from that. Pure.

    of the bound factors        and the key    it is          the file's licenses
    enough are kept             its own        same           count
    enough are kept             another        other-key      go on for the grace: the state folder was lost or replaced
    a strong one is kept        any            changed        go on for the grace: a part was replaced
    no strong one is kept       any            copy           stop at once, each time anew

A good verdict holds for the rest of its boot: a disk that fails, or a permission that is lost, must not stop a running
shop. The days of grace are counted while it lasts, and add up until another file comes into force: who moves the parts
back and forth gets no more of them. They are counted on the line of the trusted clock, which is `line` here: trusted
time itself can be set back while nothing confirms a clock that is far ahead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from licd.device.fingerprint import LOST, UNREADABLE, Match
from licd.license.dates import DAY_S, FOREVER, day
from licd.license.lines import LicenseFile
from licd.license.terms import CHANGED, COPY, OTHER_KEY, SAME, Standing
from licd.seats.events import Recognized


def kind_of(found: Match, *, own_key: bool) -> str:
    """The row of the table above."""
    if found.ok:
        return SAME if own_key else OTHER_KEY
    return CHANGED if found.strong_kept else COPY


def holds(before: Recognized, boot_id: str | None) -> bool:
    """It was the same earlier in this boot. Of a boot that cannot be told from others nothing is known."""
    return boot_id is not None and before.boot_id == boot_id and before.lost_since is None


def stand(
    file: LicenseFile, before: Recognized, found: Match, *, own_key: bool, boot_id: str | None, line: float
) -> tuple[Standing, Recognized]:
    """How the file stands, `until` on the clock's line; and what is on record of that from now on.

    before: what was on record of this file; found: its binding, compared with the hardware of now
    """
    kind = kind_of(found, own_key=own_key)
    if kind == SAME:
        lost_s = 0.0 if before.lost_since is None else max(0.0, line - before.lost_since)
        after = before._replace(boot_id=boot_id, lost_since=None, grace_used_s=before.grace_used_s + lost_s)
        return Standing(SAME), after
    if kind == COPY:
        return Standing(COPY, -FOREVER, explain(found)), before
    # A vendor's answer can lower the line: what was counted ahead of that is no grace.
    since = line if before.lost_since is None else min(line, before.lost_since)
    until = since + file.device_grace_days * DAY_S - before.grace_used_s
    reason = _ANOTHER_KEY if kind == OTHER_KEY else explain(found)
    return Standing(kind, until, reason), before._replace(lost_since=since)


# --- for people ----------------------------------------------------------------------------------------------

_ANOTHER_KEY = "it is bound to another device key; the state folder of this device was lost or replaced"


def explain(found: Match) -> str:
    """Why it is not the same device, factor by factor."""
    losses = []
    for state, remedy in ((LOST, ""), (UNREADABLE, ", which licd must be allowed to read: licd(8), THE DEVICE")):
        factors = [each.factor for each in found.factors if each.state == state]
        if factors:
            losses.append(f"{state}: {', '.join(factors)}{remedy}")
    told = "; ".join(losses) or "nothing is bound"
    if not found.strong_kept:
        return f"none of the hardware that it is bound to is found here ({told})"
    return f"{found.kept} of {found.bound} are kept, {found.needed} are needed ({told})"


def warning(vendor: str, standing: Standing, trusted: float) -> str | None:
    """What someone must act on; None if the device is the right one. `until` of the standing is trusted time here."""
    if standing.right:
        return None
    what = {CHANGED: "this device has changed", OTHER_KEY: "this device has another key"}.get(
        standing.kind, "this is not the device that the licenses are for"
    )
    when = "the licenses have stopped"
    if standing.until > trusted:
        when = f"the licenses go on until {day(standing.until)}"
    out = "export a new license request for the vendor (licd-cli license-request export)"
    return f"{vendor}: WRONG_DEVICE: {what}: {standing.reason}; {when}; {out}"


def factor_rows(found: Match) -> Sequence[dict[str, Any]]:
    """The match factor by factor, as answers have it."""
    return [each._asdict() for each in found.factors]

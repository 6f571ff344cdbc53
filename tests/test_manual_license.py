"""licd-license(5) against the code, in both directions: members of documents, signature headers, limits of versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest

from licd.device import machine
from licd.license import binding, document, install, lines, members, renewal, schedule, versions
from licd.license.dates import DAY_S, FOREVER
from tests.support import mdoc
from tests.support.mdoc import items, section, source, text, with_macro
from tests.support.wording import member_is

LICENSE = source("licd-license.5")
FILE = section(LICENSE, "LICENSE FILE")
FORM = {item.head: item.text for item in with_macro(section(section(LICENSE, "FORM"), "Signature"), "Va")}

Checks = Mapping[str, members.Check]

BINDING: Checks = dict(
    zip(
        binding.Binding._fields,
        (binding.a_key, binding.a_salt, binding.a_fingerprint, binding.weights, binding.a_share),
        strict=True,
    )
)
# What the device fills in is checked by one and the same rule.
SOFTWARE: Checks = {f"software.{name}": install._fact for name in machine.software()}
MACHINE: Checks = {
    "machine.kind": members.choice(install.PHYSICAL, install.VM, install.CONTAINER),
    "machine.name": members.or_null(install._fact),
}
USAGE: Checks = {"usage.from": members.or_null(members.a_date), "usage.peaks": renewal._peaks}
ANSWERS = section(LICENSE, "ANSWERS")
MEMBERS: dict[str, tuple[list[str], Checks, str]] = {
    "First line": (section(FILE, "First line"), lines._FILE, document.LICENSE_FILE),
    "License": (section(FILE, "License"), lines._LICENSE, document.LICENSE),
    "Renewal": (section(FILE, "Renewal"), lines._RENEWAL, ""),
    "Device": (section(FILE, "Device"), BINDING, ""),
    "Install request": (section(LICENSE, "INSTALL REQUEST"), install._INSTALL_REQUEST, document.INSTALL_REQUEST),
    "License request": (
        section(LICENSE, "LICENSE REQUEST"),
        {**install._LICENSE_REQUEST, **SOFTWARE, **MACHINE},
        document.LICENSE_REQUEST,
    ),
    "Renewal request": (
        section(LICENSE, "RENEWAL REQUEST"),
        {**renewal._RENEWAL_REQUEST, **USAGE},
        document.RENEWAL_REQUEST,
    ),
    "Unchanged": (section(ANSWERS, "Unchanged"), renewal._UNCHANGED, document.UNCHANGED),
    "Refusal": (
        section(ANSWERS, "Refusal"),
        {name: check for name, check in renewal._REFUSAL.items() if name not in renewal._UNCHANGED},
        document.REFUSAL,
    ),
    "Withdrawn": (
        section(section(LICENSE, "TRUST"), "Withdrawn certificates"),
        {**lines._WITHDRAWN, **lines._ENTRY},
        document.WITHDRAWN,
    ),
}


@pytest.mark.parametrize("name", MEMBERS)
def test_the_manual_lists_exactly_the_members_of_a_record_with_type_and_bounds(name: str) -> None:
    body, checks, kind = MEMBERS[name]
    entries = {item.head: mdoc.unescaped(item.lines[0]) for item in with_macro(body, "Va")}
    expected = {
        **{member: member_is(check) for member, check in checks.items()},
        **({"licd": "1.", "type": f"{kind}."} if kind else {}),
    }
    if name == "Withdrawn":
        expected["keys"] = "An array of objects with the two members below."
    assert entries == expected


def test_a_refusal_has_the_members_of_an_unchanged_answer_and_those_of_its_own() -> None:
    assert renewal._UNCHANGED.items() <= renewal._REFUSAL.items()
    assert "the members of Unchanged and two more" in text(MEMBERS["Refusal"][0])
    assert len(renewal._REFUSAL) == len(renewal._UNCHANGED) + 2


def test_what_a_shop_sees_whose_vendor_cannot_be_reached_is_what_the_plan_says() -> None:
    shown = section(section(LICENSE, "RENEWAL"), "When the vendor cannot be reached")
    (words,) = re.findall(r'"need":"(\w+)","every_days":(\d+),"grace_days":(\d+)', text(shown))
    need, every_days, grace_days = words[0], int(words[1]), int(words[2])
    assert need == schedule.REQUIRED
    wanted = lines.Renewal(need, every_days, grace_days)
    moments = []
    for share in (0.0, 1.0):  # the first device and the last
        plan = schedule.plan({wanted}, 0.0, schedule.Progress(), share=share, trusted=0.0, ran_s=0.0)
        assert plan.due is not None
        moments.append((plan.due / DAY_S, *(each / DAY_S for each in plan.stops[wanted])))
    found = re.findall(r"from day (\d+) to (\d+)", " ".join(item.head for item in items(shown)))
    assert [(float(first), float(last)) for first, last in found] == list(zip(*moments, strict=True))


def test_the_manual_says_how_long_it_waits_after_each_failure() -> None:
    (words,) = re.findall(r"again after (.*?) hours, then about (once a day)", text(section(LICENSE, "RENEWAL")))
    hours = [float(each) for each in re.findall(r"\d+", words[0])]
    progress, longest, shortest = schedule.Progress(), [], []
    for n in range(len(hours) + 1):
        waits = [
            schedule.failed(progress, share=share / 100, trusted=0.0, stop=FOREVER, retry_after_s=None).retry_at / 3600
            for share in range(100)
        ]
        longest.append(round(max(waits)))
        shortest.append(min(waits))
        progress = schedule.Progress(failures=n + 1)
    assert longest == [*hours, 24.0]
    assert all(short >= max(2.0, long * 0.75) for short, long in zip(shortest, longest, strict=True))


def test_what_the_manual_says_of_the_machine_is_what_a_device_can_find() -> None:
    listed = [item.head for item in with_macro(MEMBERS["License request"][0], "Va")]
    assert {name.removeprefix("machine.") for name in listed if "machine." in name} == set(machine.Machine._fields)
    assert MACHINE["machine.kind"](machine.machine().kind) in (machine.PHYSICAL, machine.VM, machine.CONTAINER)


def test_the_manual_lists_exactly_the_algorithms_of_vendor_and_device() -> None:
    vendors, _, devices = FORM["alg"].partition("The device's:")
    assert set(re.findall(r"[EPR]S\d+", vendors)) == document._VENDOR.keys()
    assert set(re.findall(r"EdDSA", devices)) == document._DEVICE.keys()


def test_the_manual_lists_exactly_the_kinds_of_record() -> None:
    assert set(re.findall(r"licd-([a-z-]+)", FORM["typ"])) == document.KINDS.keys()


def test_the_manual_lists_exactly_the_members_of_a_signature_header_and_whose_they_are() -> None:
    vendors = document.vendor_header(document.LICENSE_FILE, "ES256", b"", [""])
    devices = document.device_header(document.LICENSE_REQUEST, "")
    assert FORM.keys() == vendors.keys() | devices.keys()
    assert {name for name, said in FORM.items() if said.startswith("The vendor's")} == {
        "alg",
        *(vendors.keys() - devices.keys()),
    }
    assert {name for name, said in FORM.items() if said.startswith("The device's")} == devices.keys() - vendors.keys()


def test_the_manual_lists_exactly_the_members_of_a_jwk() -> None:
    assert dict(re.findall(r'"(\w+)"(?::"(\w+)")?', FORM["jwk"])) == document.device_key("")


@pytest.mark.parametrize(
    ("covered", "version", "answer"),
    [
        ("5.2", "5.2.0", True), ("5.2", "5.2.1", False), ("5.*", "5.9.9", True), ("5.*", "6.0", False),
        ("<=4.2", "4.2", True), ("<=4.2", "4.2.1", False), (">=4,<6", "5.9", True), (">=4,<6", "6.0", False),
    ],
)  # fmt: skip
def test_the_sets_of_versions_in_the_manual_mean_what_it_says(covered: str, version: str, answer: bool) -> None:
    heads = [item.head.split(" ")[0] for item in items(section(section(LICENSE, "FORM"), "Versions"))]
    assert covered in heads
    assert versions.Versions.parse(covered).covers(version) is answer


# --- bounds that stand in sentences -------------------------------------------------------------------------


def accepted(check: members.Check, value: Any) -> bool:
    try:
        check(value)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "said", "check", "most"),
    [
        ("fingerprint", "an array of 1 to {} tags", binding.a_fingerprint, lambda n: {"disk": ["0123ab"] * n}),
        ("fingerprint", "at most {} factors", binding.a_fingerprint, lambda n: {f"f{i}": ["0123ab"] for i in range(n)}),
        ("weights", "an integer from 1 to {}", binding.weights, lambda n: {"disk": n}),
        ("weights", "1 to {} factors", binding.weights, lambda n: {f"f{i}": 1 for i in range(n)}),
    ],
)
def test_a_bound_of_a_binding_s_members_is_the_one_in_the_manual(
    name: str, said: str, check: members.Check, most: Any
) -> None:
    bodies = [body for body, checks, _ in MEMBERS.values() if name in checks]
    entries = [item.text for body in bodies for item in with_macro(body, "Va") if item.head == name]
    found = {int(match[1]) for entry in entries if (match := re.search(said.format(r"(\d+)"), entry))}
    assert len(found) == 1
    bound = found.pop()
    assert accepted(check, most(bound))
    assert not accepted(check, most(bound + 1))
    if "1 to" in said:
        assert not accepted(check, most(0))

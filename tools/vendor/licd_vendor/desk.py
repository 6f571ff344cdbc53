"""What the commands around the store do: read, decide in one transaction, then write and say what was done."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy.orm import Session

from licd.device.fingerprint import DEFAULT_WEIGHTS, LEAST_STRONG, SEVERAL, strong_kinds
from licd.license import install, trust
from licd_vendor import (
    asking,
    editing,
    filing,
    issuing,
    keys,
    orders,
    output,
    passphrase,
    renewing,
    show,
    sign,
    store,
    written,
)
from licd_vendor.keys import Failure
from licd_vendor.show import counted

DONE = 0

_MACHINES = {
    install.PHYSICAL: "physical machine",
    install.VM: "virtual machine",
    install.CONTAINER: "container",
}


def own_profile(arguments: argparse.Namespace) -> trust.VendorProfile:
    return show.load_profile(arguments.dir / "profile")


@contextmanager
def open_store(arguments: argparse.Namespace, profile: trust.VendorProfile) -> Iterator[Session]:
    with store.transaction(database(arguments), profile.vendor) as session:
        yield session


def database(arguments: argparse.Namespace) -> str | Path:
    place: str | Path = arguments.database or arguments.dir / "vendor.db"
    return place


def own_key(arguments: argparse.Namespace) -> keys.SigningKey:
    return keys.read_signer(arguments.dir, passphrase.given(arguments), passphrase.ask)


def check_output(arguments: argparse.Namespace, request: str = "the license request") -> None:
    others = {
        "the store": store.file_of(database(arguments)),
        request: getattr(arguments, "request", None),
        "the passphrase": getattr(arguments, "passphrase_file", None),
    }
    output.check(arguments.output, arguments.dir, others)


def _write(place: output.Place, data: bytes, id: str) -> None:
    output.write(place, data, f"Nothing is lost, it is in the store: licd-vendor reissue {id} -o FILE")


def order_new(arguments: argparse.Namespace) -> int:
    profile = own_profile(arguments)
    description = sign.read_order(arguments.description) if arguments.description else {"licenses": []}
    chain, now = keys.read_chain(arguments.dir), time.time()
    with open_store(arguments, profile) as session:
        description["licenses"] += [written.license(each) for each in arguments.license or ()]
        if arguments.renewal is not None:
            if "renewal" in description:
                raise Failure("The renewal stands in the description, and in --renewal.", "Say it in one place.")
            description["renewal"] = written.renewal(arguments.renewal)
        order = orders.new_order(
            session,
            profile,
            chain,
            arguments.customer,
            description,
            devices=arguments.devices,
            rehosts=arguments.rehosts,
            allow_weak=arguments.allow_weak,
            now=now,
        )
        number, count = order.id, len(order.licenses)
        over = [f"the license {each.name} has ended" for each in order.licenses if orders.has_ended(each, now)]
    print(f"order {number}: {counted(count, 'license')}, {_allows(arguments.devices, arguments.rehosts)}")
    print(f"next: licd-vendor install-request new {number} -o FILE")
    for each in over:
        print(f"note: {each}", file=sys.stderr)
    return DONE


def _allows(devices: int, rehosts: int) -> str:
    return f"{counted(devices, 'device')}, {counted(rehosts, 're-host')}"


def order_list(arguments: argparse.Namespace) -> int:
    with open_store(arguments, own_profile(arguments)) as session:
        rows = orders.list_orders(session, arguments.customer, time.time())
    if arguments.json:
        print(json.dumps({"orders": rows}, indent=2))
        return DONE
    table = [("ORDER", "CUSTOMER", "SINCE", "STATE", "DEVICES", "RE-HOSTS", "LICENSES")]
    for row in rows:
        devices = f"{len(row['devices'])} of {row['devices_most']}"
        rehosts = f"{row['rehosts']} of {row['rehosts_most']}"
        names = ", ".join(row["licenses"])
        order, since = str(row["order"]), row["created"][:10]
        table.append((order, row["customer"], since, row["state"], devices, rehosts, names))
    print_table(table)
    return DONE


def order_show(arguments: argparse.Namespace) -> int:
    with open_store(arguments, own_profile(arguments)) as session:
        row = orders.show_order(session, arguments.order, time.time())
    if arguments.json:
        print(json.dumps(row, indent=2))
        return DONE
    print(f"order {row['order']} of the customer {row['customer']}, since {row['created'][:10]}")
    if row["state"] != orders.LIVE:
        print(f"state: {_state(row)}, so its licenses are in no further file")
    print(f"devices: {len(row['devices'])} of {row['devices_most']}")
    print(f"re-hosts: {row['rehosts']} of {row['rehosts_most']}")
    if row["allow_weak"]:
        print("weak devices: allowed")
    print(f"install request: {row['install_request'] or 'none'}")
    print(f"renewal: {show.renewal(row['renewal'])}")
    print(f"device_grace_days: {row['device_grace_days']}")
    if row["x"]:
        print(f"x: {show.plain(row['x'])}")
    for n, each in enumerate(row["licenses"], 1):
        print("\n".join(show.license_lines(each | {"n": n})))
        print(f"      id: {each['id']}")
    for each in row["devices"]:
        print(
            f"device {each['device']}: seq {each['seq']}, issued {each['issued']}, factors {', '.join(each['factors'])}"
        )
    return DONE


def _state(row: Mapping[str, Any]) -> str:
    if row["state"] == orders.SUSPENDED:
        why = f" ({show.plain(row['suspended_reason'])})" if row["suspended_reason"] else ""
        return f"suspended on {row['suspended'][:10]}{why}"
    return f"{row['state']} on {row['ended'][:10]}" if row["ended"] else str(row["state"])


def order_end(arguments: argparse.Namespace) -> int:
    with open_store(arguments, own_profile(arguments)) as session:
        order = orders.end_order(session, arguments.order, time.time())
        number, ended, devices = order.id, str(order.ended), len(order.devices)
    print(f"order {number}: ended on {ended[:10]}")
    print(f"next: if that was a mistake: licd-vendor order reopen {number}")
    _tell_devices(devices)
    return DONE


def order_reopen(arguments: argparse.Namespace) -> int:
    with open_store(arguments, own_profile(arguments)) as session:
        order, ended = orders.reopen_order(session, arguments.order)
        number, devices, state = order.id, len(order.devices), orders.state_of(order, time.time())
    print(f"order {number}: {f'open again (ended on {ended[:10]})' if ended else 'was not ended'}; it is {state}")
    if ended:
        _tell_again(devices)
    return DONE


def order_suspend(arguments: argparse.Namespace) -> int:
    with open_store(arguments, own_profile(arguments)) as session:
        order = orders.suspend_order(session, arguments.order, arguments.reason, time.time())
        number, since, devices = order.id, str(order.suspended), len(order.devices)
    print(f"order {number}: suspended on {since[:10]}")
    print(f"next: to take that back: licd-vendor order resume {number}")
    _tell_devices(devices)
    return DONE


def order_resume(arguments: argparse.Namespace) -> int:
    with open_store(arguments, own_profile(arguments)) as session:
        order, since = orders.resume_order(session, arguments.order)
        number, devices, state = order.id, len(order.devices), orders.state_of(order, time.time())
    print(f"order {number}: {f'resumed (suspended on {since[:10]})' if since else 'was not suspended'}; it is {state}")
    if since:
        _tell_again(devices)
    return DONE


def _tell_devices(devices: int) -> None:
    if devices:
        words = f"{counted(devices, 'device')} may go on with it until the next renewal"
        print(f"note: {words}, or until the next license file is in force there", file=sys.stderr)


def _tell_again(devices: int) -> None:
    if devices:
        print(f"next: {counted(devices, 'device')} may ask for it again: licd-cli renew, or licd-vendor issue")


def order_set(arguments: argparse.Namespace) -> int:
    profile, now = own_profile(arguments), time.time()
    changes = editing.Changes(
        None if arguments.renewal is None else written.renewal(arguments.renewal),
        [written.change(each) for each in arguments.license or ()],
        [written.license(each) for each in arguments.add_license or ()],
        arguments.remove_license or (),
    )
    changed = None
    chain = keys.read_chain(arguments.dir) if any(changes) else ()
    with open_store(arguments, profile) as session:
        order = orders.set_order(
            session,
            arguments.order,
            devices=arguments.devices,
            rehosts=arguments.rehosts,
            allow_weak=arguments.allow_weak,
        )
        if any(changes):
            changed = editing.change_order(session, profile, chain, arguments.order, changes, now=now)
        number, allows = order.id, _allows(order.devices_most, order.rehosts_most)
        allows += ", weak ones too" if order.allow_weak else ""
        devices, state = len(order.devices), orders.state_of(order, now)
        over = [f"the license {each.name} has ended" for each in order.licenses if orders.has_ended(each, now)]
    print(f"order {number}: {allows}")
    if changed is not None:
        print("\n".join(_changed_lines(changed)))
        if changed.renewal or changed.licenses:
            _tell_change(changed, devices, state, profile)
        for each in over:
            print(f"note: {each}", file=sys.stderr)
    return DONE


def _changed_lines(changed: editing.Changed) -> Iterator[str]:
    if changed.renewal is not None:
        yield f"   *  renewal: {' -> '.join(map(show.renewal, changed.renewal))}"
    for before, after in changed.licenses:
        if before is not None and after is not None:
            differs = [name for name in after if after[name] != before[name]]
            words = (f"{name} {_term(name, before[name])} -> {_term(name, after[name])}" for name in differs)
            yield f"   *  {after['name']}: {'; '.join(words)}"
        else:
            yield from show.license_lines((before or after or {}) | {"n": "+" if before is None else "-"})
    if changed.renewal is None and not changed.licenses:
        yield "nothing changed: it was so before"


def _term(name: str, value: Any) -> str:
    if value is None:
        return "as of the order" if name == "renewal" else "none"
    return show.renewal(value)


def _tell_change(changed: editing.Changed, devices: int, state: str, profile: trust.VendorProfile) -> None:
    if state != orders.LIVE:
        print(f"note: the order is {state}, so its licenses are in no further file", file=sys.stderr)
    elif devices:
        print(f"next: {counted(devices, 'device')}: at the next renewal, or by a new file: licd-vendor issue")
        if not changed.asked:
            print("note: such a device asks for no renewal by itself; there: licd-cli renew", file=sys.stderr)
        elif profile.url is None:
            print("note: the vendor profile has no url, so devices can renew by file only", file=sys.stderr)


def install_request_new(arguments: argparse.Namespace) -> int:
    profile = own_profile(arguments)
    check_output(arguments)
    key = own_key(arguments)  # before the transaction: a person may be asked, and nobody should wait for that
    weights = arguments.weights or DEFAULT_WEIGHTS
    with open_store(arguments, profile) as session:
        row = asking.new_install_request(
            session, profile, key, arguments.order, weights=weights, share=arguments.share, now=time.time()
        )
        id, data = row.id, row.document
    _write(arguments.output, data, id)
    say = _say(arguments.output)
    say(f"install request {id} for order {arguments.order}, {counted(len(weights), 'factor')}", named=True)
    if len(strong_kinds(weights)) < LEAST_STRONG:
        say("note: fewer than two strong factors of different kinds are asked for; issue will need --weak")
    return DONE


def issue(arguments: argparse.Namespace) -> int:
    profile = own_profile(arguments)
    check_output(arguments)
    request = install.verify_license_request(show.read_document(arguments.request))
    key = own_key(arguments)
    with open_store(arguments, profile) as session:
        issued = issuing.issue(
            session,
            profile,
            key,
            request,
            rehost=arguments.rehost,
            weak=arguments.weak,
            many=arguments.many,
            now=time.time(),
        )
        row = issued.issue
        id, data, seq, device, how = row.id, row.document, row.seq, row.device_id, row.rehost
        held = filing.numbered([each.order_id for each in row.orders])
    _write(arguments.output, data, id)
    say = _say(arguments.output)
    say(f"seq {seq}, {counted(issued.licenses, 'license')}, device {device}, {held}", named=True)
    machine, software = request.machine, request.software
    name = f" ({machine['name']})" if machine["name"] else ""
    system = " ".join(software[each] for each in ("os", "os_version", "architecture"))
    several = ", ".join(counted(len(request.fingerprint.get(each, ())), each) for each in sorted(SEVERAL))
    say(f"asked by a {_MACHINES[str(machine['kind'])]}{name} with {system}, which shows {several}")
    for note in notes(issued, how):
        say(note)
    return DONE


def notes(done: issuing.Issued | renewing.Answer, how: str | None = None) -> Iterator[str]:
    """What a person should know of the file that a device gets. how: the re-host (recognize.py), if that is known"""
    if done.again:
        yield "note: issued before, the same again"
    for order in done.without:
        yield f"note: nothing is issued for order {order} now, and it is not in it"
    for order, count, most in done.rehosts:
        yield f"note: re-host {count} of {most} of order {order}{f' ({how})' if how else ''}"
    if done.worn:
        yield f"note: {done.worn} percent of the device was replaced within a year; at {filing.WHOLE} it is another"


def _say(place: output.Place) -> Callable[..., None]:
    def say(sentence: str, *, named: bool = False) -> None:
        print(f"{output.name(place)}: {sentence}" if named else sentence, file=output.words(place))

    return say


def reissue(arguments: argparse.Namespace) -> int:
    check_output(arguments)
    with open_store(arguments, own_profile(arguments)) as session:
        kind, data = issuing.find_document(session, arguments.document)
    _write(arguments.output, data, arguments.document)
    _say(arguments.output)(f"{kind} {arguments.document}, the same again", named=True)
    return DONE


def history(arguments: argparse.Namespace) -> int:
    with open_store(arguments, own_profile(arguments)) as session:
        rows = orders.history(session, customer=arguments.customer, device=arguments.device, order=arguments.order)
    if arguments.json:
        print(json.dumps({"documents": rows}, indent=2))
        return DONE
    table = [("ISSUED", "CUSTOMER", "ORDERS", "DEVICE", "SEQ", "KIND", "ID", "")]
    for row in rows:
        notes = [row["rehost"] and f"re-host ({row['rehost']})", row["weak"] and "weak", row["note"]]
        table.append(
            (
                row["issued"],
                row["customer"],
                ",".join(map(str, row["orders"])),
                str(row["device"] or ""),
                str(row["seq"] or ""),
                row["kind"],
                row["id"],
                "; ".join(filter(None, notes)),
            )
        )
    print_table(table)
    return DONE


def print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())

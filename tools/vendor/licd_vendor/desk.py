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
from licd_vendor import asking, issuing, keys, orders, output, passphrase, show, sign, store
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


def _check_output(arguments: argparse.Namespace) -> None:
    others = {
        "the store": store.file_of(database(arguments)),
        "the license request": getattr(arguments, "request", None),
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
        description["licenses"] += [orders.written_license(each) for each in arguments.license or ()]
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
    return f"{row['state']} on {row['ended'][:10]}" if row["ended"] else str(row["state"])


def order_end(arguments: argparse.Namespace) -> int:
    with open_store(arguments, own_profile(arguments)) as session:
        order = orders.end_order(session, arguments.order, time.time())
        number, ended, devices = order.id, str(order.ended), len(order.devices)
    print(f"order {number}: ended on {ended[:10]}")
    if devices:
        print(f"note: {counted(devices, 'device')} may go on with it until the next license file is in force there")
    return DONE


def order_set(arguments: argparse.Namespace) -> int:
    with open_store(arguments, own_profile(arguments)) as session:
        order = orders.set_order(
            session,
            arguments.order,
            devices=arguments.devices,
            rehosts=arguments.rehosts,
            allow_weak=arguments.allow_weak,
        )
        number, allows = order.id, _allows(order.devices_most, order.rehosts_most)
        allows += ", weak ones too" if order.allow_weak else ""
    print(f"order {number}: {allows}")
    return DONE


def install_request_new(arguments: argparse.Namespace) -> int:
    profile = own_profile(arguments)
    _check_output(arguments)
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
    _check_output(arguments)
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
        numbers = [str(each.order_id) for each in row.orders]
    _write(arguments.output, data, id)
    say = _say(arguments.output)
    held = f"order{'s' * (len(numbers) > 1)} {', '.join(numbers)}"
    say(f"seq {seq}, {counted(issued.licenses, 'license')}, device {device}, {held}", named=True)
    machine, software = request.machine, request.software
    name = f" ({machine['name']})" if machine["name"] else ""
    system = " ".join(software[each] for each in ("os", "os_version", "architecture"))
    several = ", ".join(counted(len(request.fingerprint.get(each, ())), each) for each in sorted(SEVERAL))
    say(f"asked by a {_MACHINES[str(machine['kind'])]}{name} with {system}, which shows {several}")
    if issued.again:
        say("note: issued before, the same again")
    for order in issued.without:
        say(f"note: order {order} is over, and not in it")
    for order, count, most in issued.rehosts:
        say(f"note: re-host {count} of {most} of order {order} ({how})")
    if issued.worn:
        say(f"note: {issued.worn} percent of the device was replaced within a year; at {issuing.WHOLE} it is another")
    return DONE


def _say(place: output.Place) -> Callable[..., None]:
    def say(sentence: str, *, named: bool = False) -> None:
        print(f"{output.name(place)}: {sentence}" if named else sentence, file=output.words(place))

    return say


def reissue(arguments: argparse.Namespace) -> int:
    _check_output(arguments)
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

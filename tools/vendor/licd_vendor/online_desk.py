"""What the commands for the network do: activation codes, and the server itself."""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

from licd_vendor import codes, listen
from licd_vendor.desk import DONE, database, open_store, own_key, own_profile, print_table
from licd_vendor.keys import Failure
from licd_vendor.serve import create_app, log_to
from licd_vendor.show import counted


def code_new(arguments: argparse.Namespace) -> int:
    profile = own_profile(arguments)
    with open_store(arguments, profile) as session:
        row, written = codes.new_code(
            session, arguments.order, days=arguments.expires_days, devices=arguments.devices, now=time.time()
        )
        number, until, order = row.id, row.expires[:10], row.order
        most, left = row.devices_most, order.devices_most - len(order.devices)
    print(written)  # only once it is in the store
    print(f"code {number} for order {arguments.order}: {counted(most, 'device')}, until {until}", file=sys.stderr)
    print("note: it is not shown again; the store has only its hash", file=sys.stderr)
    if most > left:
        print(f"note: the order has {counted(max(left, 0), 'free place')}; no code gives more", file=sys.stderr)
    if profile.url is None:
        print("note: the vendor profile has no url, so devices do not know where to send it", file=sys.stderr)
    return DONE


def code_list(arguments: argparse.Namespace) -> int:
    with open_store(arguments, own_profile(arguments)) as session:
        rows = codes.list_codes(session, arguments.order, time.time())
    if arguments.json:
        print(json.dumps({"codes": rows}, indent=2))
        return DONE
    table = [("CODE", "SINCE", "EXPIRES", "STATE", "DEVICES", "INSTALL REQUEST")]
    for row in rows:
        devices = f"{len(row['devices'])} of {row['devices_most']}"
        asked = row["install_request"] or "-"
        table.append((str(row["code"]), row["created"][:10], row["expires"][:10], row["state"], devices, asked))
    print_table(table)
    return DONE


def code_end(arguments: argparse.Namespace) -> int:
    with open_store(arguments, own_profile(arguments)) as session:
        row = codes.end_code(session, arguments.code, time.time())
        number, ended = row.id, str(row.ended)
    print(f"code {number}: ended on {ended[:10]}")
    return DONE


def serve(arguments: argparse.Namespace) -> int:
    host, _, port = arguments.listen.rpartition(":")
    host = host.strip("[]")
    tls = _tls(arguments)
    if tls is None and not arguments.behind_proxy and not listen.is_loopback(host):
        reason = f"Without TLS, {host} would send codes and documents in the clear."
        raise Failure(reason, "Give --tls-cert and --tls-key; or --behind-proxy, if a reverse proxy speaks TLS.")
    key = own_key(arguments)
    log = log_to(arguments.access_log) if arguments.access_log else None
    app = create_app(arguments.dir, database(arguments), key, behind_proxy=arguments.behind_proxy, access_log=log)

    def ready(port: int) -> None:
        place = f"[{host}]" if ":" in host else host
        print(f"licd-vendor serve: {'https' if tls else 'http'}://{place}:{port}", file=sys.stderr, flush=True)

    listen.serve(app, host, int(port), tls, ready, proxied=arguments.behind_proxy)
    return DONE


def _tls(arguments: argparse.Namespace) -> tuple[Path, Path] | None:
    certificate, key = arguments.tls_cert, arguments.tls_key
    if (certificate is None) != (key is None):
        raise Failure("A certificate and its key belong together.", "Give both --tls-cert and --tls-key.")
    if certificate is not None and arguments.behind_proxy:
        raise Failure("--behind-proxy is for plain HTTP: the proxy speaks TLS.", "Give one or the other.")
    return None if certificate is None else (certificate, key)

"""Mode 4 in the story of tools/quickstart --online: an order changes, and the device hears of it by renewal."""

from __future__ import annotations

from typing import Any

from quickstart import Shop, check, run, step
from quickstart_server import VENDOR, Server

REFUSED, NOT_REACHED = 1, 3  # exit statuses: licd-cli(1)


def renew(shop: Shop, *, status: int = 0) -> Any:
    """What became of the one vendor that was asked."""
    (row,) = shop.ask("renew", "--ca", "tls.pem", status=status)["vendors"]
    return row


def seats(shop: Shop) -> int:
    """How many of kso.scan there are; 0 if it does not count."""
    (row,) = (row for row in shop.ask("licenses")["licenses"] if row["license"] == "kso.scan")
    total: int = row["total"]
    return total


def renewal(shop: Shop, server: Server, number: str) -> None:
    over_the_network(shop, number)
    by_file(shop, number)
    refused(shop, number)
    not_reached(shop, server)


def over_the_network(shop: Shop, number: str) -> None:
    step("The customer buys two seats more: the vendor changes the order, and the next renewal brings them")
    run(*VENDOR, "order", "set", number, "--license", "kso.scan,seats=5")
    shop.cli("renew", "--ca", "tls.pem")
    check(seats(shop) == 5, "there are five seats now")
    step("Renewed again: nothing has changed, and the vendor signs just that; the timer would not even ask yet")
    check(renew(shop)["outcome"] == "unchanged", "the license file in force goes on")
    check(shop.ask("renew", "--due")["vendors"] == [], "nothing is due")


def by_file(shop: Shop, number: str) -> None:
    step("The same without any network: the renewal request goes to the vendor as a file, the answer comes back as one")
    run(*VENDOR, "order", "set", number, "--license", "kso.scan,seats=6")
    shop.cli("renew", "--export", "renewal.licd")
    run(*VENDOR, "renew", "renewal.licd", "-o", "answer.licd")
    shop.cli("renew", "--import", "answer.licd")
    check(seats(shop) == 6, "there are six seats now")


def refused(shop: Shop, number: str) -> None:
    step("The customer has not paid: the vendor suspends the order, and the renewal is refused, signed and loud")
    run(*VENDOR, "order", "suspend", number, "--reason", "invoice 17 is not paid")
    told = shop.cli("renew", "--ca", "tls.pem", status=REFUSED)
    check("REFUSED" in told, "it is told as a refusal, not as trouble with the network")
    shop.cli("licenses")
    check(seats(shop) == 6, "the licenses go on until the day that the refusal names")
    step("It is paid: the order is resumed, and the next renewal takes the refusal back")
    run(*VENDOR, "order", "resume", number)
    check(renew(shop)["outcome"] in ("renewed", "unchanged"), "the vendor says yes again")
    check(seats(shop) == 6, "and nothing was lost")


def not_reached(shop: Shop, server: Server) -> None:
    step("The vendor's server is down: that is no refusal, and takes nothing away")
    check(server.end() == 0, "licd-vendor serve stopped with status 0")
    row = renew(shop, status=NOT_REACHED)
    check(row["outcome"] == "failed" and row["next"] is not None, f"licd says when it is tried again: {row['next']}")
    check(seats(shop) == 6, "the licenses go on")
    server.start()
    shop.cli("renew", "--ca", "tls.pem")

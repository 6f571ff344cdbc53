"""The story of tools/quickstart --online: the same over the network, by install request and by code, and renewed."""

from __future__ import annotations

import re
import shutil
import signal
import sys
from pathlib import Path

from quickstart import PLAY, Failed, Shop, check, run, socket_path, step
from quickstart_renewal import renewal
from quickstart_server import HOST, VENDOR, Server, certificate, free_port


def vendor(port: int) -> None:
    step("The vendor makes its keys and profile, now with an address, and a TLS certificate for its server")
    url = f"https://{HOST}:{port}"
    run("licd-vendor", "init", "vendor", "--vendor", "acme", "--names", "kso.*", "--url", url)
    shutil.copytree(PLAY / "vendor" / "profile", PLAY / "vendor.d" / "acme")
    certificate()


def order(customer: str, shop: Shop) -> str:
    """The number of a new order."""
    words = [
        "order",
        "new",
        "--customer",
        customer,
        "--license",
        "kso.scan,seats=3",
        "--license",
        "kso.report,uncounted",
        "--renewal",
        "required,every=30,grace=14",
    ]
    if shop.ask("fingerprint")["weak"]:
        print("   This machine shows fewer than two strong factors of different kinds: the order has to allow that.")
        words.append("--allow-weak")
    found = re.match(r"order (\d+):", run(*VENDOR, *words))
    if found is None:
        raise Failed("order new did not say the order's number")
    return found[1]


def by_install_request(shop: Shop) -> str:
    """The number of the order whose licenses the shop has then."""
    number = order("shop-17", shop)
    run(*VENDOR, "install-request", "new", number, "-o", "install.licd")
    step("The installer has the install request as a file; one command does the rest")
    shop.cli("activate", "--install-request", "install.licd", "--ca", "tls.pem")
    shop.cli("licenses")
    check(shop.ask("fingerprint")["vendors"][0]["standing"] == "same", "the licenses are bound to this device")
    step("The same command again changes nothing: whatever interrupts it, it can be run again")
    shop.cli("activate", "--install-request", "install.licd", "--ca", "tls.pem")
    return number


def by_code(first: Shop) -> Shop:
    step("Another customer gets a code, 16 + 6, to be read out on the telephone")
    shop = Shop(first.socket.with_name("other.sock"), "other")
    shop.start()
    number = order("shop-18", shop)
    printed = run(*VENDOR, "code", "new", number)
    found = re.search(r"\b((?:[A-Z0-9]{4}-){3}[A-Z0-9]{4}) ([A-Z0-9]{3}-[A-Z0-9]{3})\b", printed)
    if found is None:
        raise Failed("code new printed no code")
    code, control = found.groups()
    step("On another device the installer mistypes one symbol: nothing is sent, and what was meant is proposed")
    wrong = ("2" if code[0] != "2" else "3") + code[1:]
    error = shop.ask("activate", wrong, control, "--ca", "tls.pem", status=2)["error"]
    check(f"{code} {control}" in error["data"]["next"], "the right code is proposed, and not taken by itself")
    step("With the right code, in any case and with any blanks, the licenses come")
    shop.cli("activate", code.replace("-", " ").lower(), control.lower(), "--ca", "tls.pem")
    check(len(shop.ask("licenses")["licenses"]) == 2, "both licenses are active")
    return shop


def main() -> int:
    if PLAY.exists():
        shutil.rmtree(PLAY)
    (PLAY / "vendor.d").mkdir(parents=True)
    server = Server(free_port())
    shop = Shop(socket_path(), "state")
    other: Shop | None = None
    (PLAY / "licd.conf").write_text(
        f"[licd]\nstate = {PLAY / 'state'}\nsocket = {shop.socket}\nvendors = {PLAY / 'vendor.d'}\n"
    )
    try:
        vendor(server.port)
        server.start()
        step("On the device licd starts; it has no network itself: licd-cli asks the vendor's server for it")
        shop.start()
        number = by_install_request(shop)
        other = by_code(shop)
        step("What the vendor has on record")
        issued = run(*VENDOR, "history")
        check(len(re.findall("license file|license-file", issued)) == 2, "two license files were issued, no more")
        renewal(shop, server, number)
        step("What the vendor's server wrote of all this")
        print("     " + (PLAY / "access.log").read_text().rstrip().replace("\n", "\n     "))
        step("A tidy end: SIGTERM")
        check(server.end() == 0, "licd-vendor serve stopped with status 0")
        check(shop.end(signal.SIGTERM) == 0 and other.end(signal.SIGTERM) == 0, "both licd stopped with status 0")
    except Failed as failed:
        print(f"\nFAILED: {failed}", file=sys.stderr)
        return 1
    finally:
        for each in (server, shop, other):
            if each is not None:
                each.kill()
    print(f"\nAll of it worked. The folder {Path(PLAY)} is yours to play with.\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

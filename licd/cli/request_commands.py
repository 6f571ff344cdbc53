"""install.*: the documents before a license file, and what of them leaves this device."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

from licd.cli import arguments
from licd.cli.answers import (
    UNREADABLE_NEXT,
    UNREADABLE_WARNING,
    Answer,
    as_map,
    ask_document,
    given,
    listed,
    show_document,
)
from licd.cli.output import fill, hint, say, table, warn
from licd.rpc.client import Client, ProtocolError
from licd.rpc.errors import Refused

# The members of a license request, in its order. A member of a map stands behind its name and a dot.
MEANINGS = {
    "licd": "the form of this document",
    "type": "what it is",
    "id": "the number of this request, made up by chance",
    "vendor": "whom it is for",
    "install_request": "the vendor's install request that it answers",
    "issued": "when it was made",
    "device": "this device's public key, made for this vendor alone",
    "fingerprint": "tags of this hardware",
    "unreadable": "what was asked for, but cannot be read",
    "software": "the software",
    "software.os": "the operating system",
    "software.os_version": "its version",
    "software.architecture": "the kind of processor it is made for",
    "software.licd": "the version of licd",
    "machine": "the machine",
    "machine.kind": "a physical machine, a virtual one or a container",
    "machine.name": "which kind of virtual machine or container",
    "rehost": "whether it asks for licenses that are bound to another device, or to this one as it was",
}
# What a factor is, in words; one that is not known here is shown by its name.
FACTORS = {
    "system_uuid": "the UUID that the firmware gives this system",
    "board_serial": "the main board's serial number",
    "product_serial": "the product's serial number",
    "chassis_serial": "the case's serial number",
    "disk": "serial numbers of the fixed disks",
    "nic": "permanent addresses of the network cards",
    "cpu": "the processor's model",
    "machine_id": "the number of this installation of the operating system",
}
TAGS_OF = "tags: {factor}"


def ask_install_import(licd: Client, args: Namespace) -> Answer:
    return as_map(licd.call("install.import", document=arguments.read(args.file)))


def show_install_import(answer: Answer, args: Namespace) -> None:
    if answer.get("state") == "already":
        say("The install request {id} of {vendor} was taken in before; nothing was changed.", **answer)
    elif answer.get("superseded") is not None:
        say("The install request {id} of {vendor} is taken in, in place of {superseded}.", **answer)
    else:
        say("The install request {id} of {vendor} is taken in.", **answer)
    say("It asks for: {factors}", factors=listed(answer.get("factors")))
    say("Of their weight {share} percent must stay the same for this to be the same device.", share=answer.get("share"))
    hint("licd-cli license-request export --vendor {vendor} -o FILE, and send FILE to the vendor.", **answer)


def ask_export(licd: Client, args: Namespace) -> Answer:
    return ask_document(licd, "install.request", args)


def show_export(answer: Answer, args: Namespace) -> None:
    show_document(answer, args, "The license request {id} for {vendor} is written to {file}.", **_sentence(answer))
    show_concerns(answer)
    hint(
        "Send {file} to the vendor. The license file that comes back: licd-cli license import FILE",
        file="this document" if args.output is None else args.output,
    )
    hint("What it tells of this device: licd-cli license-request show --vendor {vendor}", **_sentence(answer))


def ask_show(licd: Client, args: Namespace) -> Answer:
    """The license request's own members: read here, from the very bytes that would be sent.

    Errors: ProtocolError, if no vendor would take them
    """
    from licd.license.install import verify_license_request  # noqa: PLC0415  cryptography: slow to start

    answer = as_map(licd.call("install.request", **given(vendor=args.vendor)))
    text = str(answer["document"])
    try:
        verify_license_request(text.encode())
    except Refused as refused:
        raise ProtocolError(f"no license request ({refused})") from None
    members, _ = json.JSONDecoder().raw_decode(text, text.index("{"))
    return as_map(members)


def show_show(members: Answer, args: Namespace) -> None:
    say("This is all that the license request for {vendor} tells. It leaves this device when you send it.", **members)
    print()
    table(("MEMBER", "VALUE", "MEANING"), list(_told(members)))
    print()
    say("No names, no addresses, no serial numbers: of what identifies hardware only tags, made under this vendor's")
    say("salt. Nothing can be read out of a tag; but whoever guesses a serial number can test it: licd-license(5).")
    say("Under it stands a signature by this device's key, so that nobody can change it on the way.")


# --- parts ---------------------------------------------------------------------------------------------------


def _sentence(answer: Answer) -> Answer:
    return {"id": answer.get("id"), "vendor": answer.get("vendor")}


def show_concerns(answer: Answer) -> None:
    if answer.get("rehost"):
        warn("This is a RE-HOST: it asks {vendor} to give this device licenses that are bound otherwise now. The "
             "vendor counts that, and a person may have to agree.", **_sentence(answer))  # fmt: skip
    if answer.get("weak"):
        warn("The fingerprint is WEAK: it has fewer than two strong kinds of hardware (found: {strong}). The vendor "
             "may refuse it, and one repair could make this another device.",
             strong=listed(answer.get("strong")) or "none")  # fmt: skip
    if answer.get("unreadable"):
        warn(UNREADABLE_WARNING, factors=listed(answer["unreadable"]))
        hint(UNREADABLE_NEXT)


def _told(members: Answer) -> Iterator[tuple[str, Any, str | None]]:
    for name, value in members.items():
        if name == "fingerprint":
            for factor, tags in as_map(value).items():
                meaning = fill(TAGS_OF, factor=FACTORS.get(factor, factor))
                yield f"{name}.{factor}", listed(tags), meaning
        elif isinstance(value, dict):
            for inner, each in value.items():
                yield f"{name}.{inner}", each, MEANINGS.get(f"{name}.{inner}")
        else:
            yield name, listed(value) if isinstance(value, list) else value, MEANINGS.get(name)

"""What a device is told where it gets no document: problem details (RFC 9457) with the names of the error catalogue.

Two readers: who installs the device gets a sentence and what to do; who runs the server sees the rest in his log. What
says something about another device, or tells him to run licd-vendor, stays there.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any, NamedTuple

from flask import Response

from licd.rpc.errors import (
    ANOTHER_DEVICE,
    ANOTHER_VENDOR,
    CODE_USED,
    DOCUMENT_TOO_LARGE,
    REHOST_LIMIT,
    SUPERSEDED_INSTALL_REQUEST,
    TOO_MANY_TRIES,
    UNKNOWN_CODE,
    UNKNOWN_INSTALL_REQUEST,
    WEAK_FINGERPRINT,
    Error,
    Refused,
)

MEDIA_TYPE = "application/problem+json"
RETRY_S = 30  # after what is no fault of the device


class Problem(NamedTuple):
    """An answer that is no document. `code`: of the catalogue, None for what only HTTP knows"""

    status: int
    name: str
    detail: str
    next: str
    code: int | None = None
    retry_after_s: int | None = None

    def response(self) -> Response:
        body: dict[str, Any] = {
            "type": f"urn:licd:error:{self.name}",
            "title": f"{self.name.replace('_', ' ').capitalize()}.",
            "status": self.status,
            "detail": self.detail,
            "name": self.name,
            "code": self.code,
            "next": self.next,
        }
        response = Response(json.dumps(body) + "\n", self.status, content_type=MEDIA_TYPE)
        if self.retry_after_s is not None:
            response.headers["Retry-After"] = str(self.retry_after_s)
        return response


# Status, and what to do where the catalogue says that to the vendor's people. All others of the catalogue are about
# what the device sent.
_STATUS: dict[Error, tuple[int, str | None]] = {
    UNKNOWN_CODE: (404, None),
    CODE_USED: (409, None),
    TOO_MANY_TRIES: (429, None),
    DOCUMENT_TOO_LARGE: (413, None),
    WEAK_FINGERPRINT: (
        403,
        "Make more of them readable, see licd(8) THE DEVICE; if this device has no others, ask the vendor.",
    ),
    UNKNOWN_INSTALL_REQUEST: (404, "Check the address of the vendor's server, or ask for a new install request."),
    SUPERSEDED_INSTALL_REQUEST: (409, "Take in the newer install request; the vendor has it."),
    ANOTHER_VENDOR: (400, "Check the address of the vendor's server."),
}


def refused(refusal: Refused) -> Problem:
    """The answer to what the device cannot have."""
    if refusal.error in (ANOTHER_DEVICE, REHOST_LIMIT):
        refusal = Refused(CODE_USED)
    error = refusal.error
    status, following = _STATUS.get(error, (400, None))
    seconds = refusal.data["seconds"] if error is TOO_MANY_TRIES else None
    return Problem(status, error.name, refusal.message, following or error.next, error.code, seconds)


ASK_VENDOR = Problem(
    403,
    "ASK_VENDOR",
    "The vendor's server does not issue this by itself; a person there has to look at it.",
    "Ask the vendor.",
)
UNAVAILABLE = Problem(
    503,
    "UNAVAILABLE",
    "The vendor's server cannot answer just now.",
    "Try again in a while; what was issued is not lost.",
    retry_after_s=RETRY_S,
)
UNKNOWN_LICENSE_FILE = Problem(
    404,
    "UNKNOWN_LICENSE_FILE",
    "The license file of this device was not issued by this server.",
    "Check the address of the vendor's server; if it is right, ask the vendor for a new license file.",
)


def come_again(seconds: int) -> Problem:
    """The answer to who can wait."""
    return UNAVAILABLE._replace(
        detail="The vendor's server has enough to do just now.",
        next="Nothing to do: the device asks again by itself.",
        retry_after_s=seconds,
    )


SERVER_ERROR = Problem(
    500,
    "SERVER_ERROR",
    "The vendor's server made a mistake, or is not set up well.",
    "Tell the vendor when it was; then try again.",
)


def of_http(status: int) -> Problem:
    """The answer to a request that is none of this service."""
    phrase = HTTPStatus(status).phrase
    name = phrase.upper().replace(" ", "_").replace("-", "_")
    return Problem(status, name, f"{phrase}.", "See licd-vendor(1): paths, methods and media types.")

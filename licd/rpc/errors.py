"""The one catalogue of errors: code, name, sentence, what to do next, and who must do it.

The first digit of a code says who can help: 1x the request, 2x the license, 3x the document, 4x the seats,
5x this machine, 6x the document and this device do not fit together, 7x the vendor's side, 9x licd itself.
Codes and names are public and stable; sentences are for people and may change.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Error(NamedTuple):
    """One row of the catalogue. `message` is a format string over the data of a refusal."""

    code: int
    name: str
    message: str
    next: str
    who: str  # developer | installer | vendor | administrator


# fmt: off
# --- 1x: the request ------------------------------------------------------------------------------------
BAD_MESSAGE = Error(
    10, "BAD_MESSAGE", "The bytes are not MessagePack-RPC: {reason}.",
    "Send requests as [0, msgid, method, params]; see licd-rpc(7).", "developer",
)
NO_SUCH_METHOD = Error(
    11, "NO_SUCH_METHOD", "There is no method {method}.",
    "Call server.hello for the list of methods.", "developer",
)
BAD_PARAMS = Error(
    12, "BAD_PARAMS", "{reason}.",
    "Send one map of the named arguments that licd-rpc(7) lists for this method.", "developer",
)
NOT_PERMITTED = Error(
    13, "NOT_PERMITTED", "{method} is for {needs} only.",
    "Run it as root or as a member of admin_group in licd.conf; a member of courier_group may only renew.",
    "administrator",
)
MESSAGE_TOO_LARGE = Error(
    14, "MESSAGE_TOO_LARGE", "The message is larger than {limit} bytes.",
    "Split the request; only documents sent by an administrator or a courier may be larger.", "developer",
)
TOO_MANY_CONNECTIONS = Error(
    15, "TOO_MANY_CONNECTIONS", "Too many connections: {limit} are open already.",
    "Keep one connection a program and reuse it, or raise the limit in licd.conf.", "developer",
)
PEER_UNKNOWN = Error(
    16, "PEER_UNKNOWN", "The kernel does not say who you are (overflow uid {uid}): such a peer holds nothing.",
    "Run the program in the user namespace of the device, under a uid of its own.", "administrator",
)
# --- 2x: the license ------------------------------------------------------------------------------------
NO_SUCH_LICENSE = Error(
    20, "NO_SUCH_LICENSE", "No license {license} is installed.",
    "Check the name, or import a license file that contains it (licd-cli license import FILE).", "installer",
)
LICENSE_EXPIRED = Error(
    21, "LICENSE_EXPIRED", "The license {license} ended on {expires}.",
    "Renew it with the vendor, then import the new license file.", "installer",
)
LICENSE_NOT_YET_VALID = Error(
    22, "LICENSE_NOT_YET_VALID", "The license {license} begins on {not_before}.",
    "Wait for that date, or check this device's clock (licd-cli status).", "installer",
)
VERSION_NOT_COVERED = Error(
    23, "VERSION_NOT_COVERED", "The license {license} covers versions {covers}, not {version}.",
    "Run a covered version of the software, or order an extension from the vendor.", "installer",
)
RENEWAL_OVERDUE = Error(
    24, "RENEWAL_OVERDUE", "The license {license} was not renewed in time, and stopped on {since}.",
    "Let this device reach the vendor's server (licd-cli renew), or renew by file (licd-cli renew --export FILE).",
    "installer",
)
RENEWAL_REFUSED = Error(
    25, "RENEWAL_REFUSED", "The vendor refused to renew {license}: {reason}.",
    "Ask the vendor; then: licd-cli renew.", "installer",
)
# --- 3x: the document -----------------------------------------------------------------------------------
BAD_DOCUMENT = Error(
    30, "BAD_DOCUMENT", "Line {line} is not what its kind of document allows: {reason}.",
    "Ask who made it for a correct document; nothing was changed.", "vendor",
)
DAMAGED_DOCUMENT = Error(
    31, "DAMAGED_DOCUMENT", "The document was damaged on the way (line {line}): {reason}.",
    "Take it again from the original: as an attachment or archive, not as text in a message.", "installer",
)
DOCUMENT_TOO_LARGE = Error(
    32, "DOCUMENT_TOO_LARGE", "The document is over a limit: {reason}.",
    "Ask the vendor to split it; limits are in licd-license(5).", "vendor",
)
BAD_SIGNATURE = Error(
    33, "BAD_SIGNATURE", "The signature of line {line} does not match its content.",
    "The line was changed after signing. Use the document exactly as it was sent.", "installer",
)
BAD_SIGNATURE_HEADER = Error(
    34, "BAD_SIGNATURE_HEADER", "The signature header of line {line} is not allowed: {reason}.",
    "Ask who signed it to do so with a current licd-vendor or licd; nothing was changed.", "vendor",
)
UNTRUSTED_SIGNER = Error(
    35, "UNTRUSTED_SIGNER", "No vendor profile of this device trusts the signer: {reason}.",
    "Install the vendor's profile (package, or vendor.d), or ask who sent this file.", "installer",
)
BAD_CERTIFICATE = Error(
    36, "BAD_CERTIFICATE", "The signer's certificate may not sign this: {reason}.",
    "Ask the vendor to sign with a proper licd signing certificate; see licd-license(5).", "vendor",
)
FOREIGN_NAME = Error(
    37, "FOREIGN_NAME", "Line {line} grants {license}, which is outside this vendor's names ({names}).",
    "Ask the vendor to correct the name, or the administrator to correct the vendor profile.", "vendor",
)
LINES_DO_NOT_FIT = Error(
    38, "LINES_DO_NOT_FIT", "The lines do not form one whole document (line {line}): {reason}.",
    "Use the file exactly as the vendor sent it: no line added, removed, moved or repeated.", "installer",
)
SIGNER_RETIRED = Error(
    39, "SIGNER_RETIRED", "The signing certificate signs nothing new any more: {reason}.",
    "Ask the vendor to sign again with a current certificate.", "vendor",
)
# --- 4x: the seats --------------------------------------------------------------------------------------
NO_SEAT_FREE = Error(
    40, "NO_SEAT_FREE", "All seats of {license} are taken: {used} of {total}.",
    "Release a seat, wait until one expires, or order more. licd-cli leases shows who holds them.", "installer",
)
TOO_MANY_SEATS = Error(
    41, "TOO_MANY_SEATS", "{license} has {total} seats altogether; {seats} were asked for.",
    "Ask for fewer seats, or order more.", "developer",
)
LEASE_UNKNOWN = Error(
    42, "LEASE_UNKNOWN", "There is no such lease (any more).",
    "Acquire again; a holder that confirms in time keeps its lease.", "developer",
)
NOT_OWNER = Error(
    43, "NOT_OWNER", "This lease belongs to another user.",
    "Ask as the user who acquired it, or as an administrator.", "developer",
)
HOLDER_IN_USE = Error(
    44, "HOLDER_IN_USE", "The holder {holder} of {license} is in use by process {pid}.",
    "Give each program a holder name of its own.", "developer",
)
SEATS_WITHDRAWN = Error(
    45, "SEATS_WITHDRAWN", "{license} has fewer seats now ({total}) than are held, and this lease is among the "
    "surplus.", "Finish and release; the lease ends at its deadline. Order more seats or renew.", "installer",
)
TOO_MANY_LEASES = Error(
    46, "TOO_MANY_LEASES", "licd holds as many leases as it may: {limit}.",
    "Release leases, or raise max_leases in licd.conf.", "administrator",
)
# --- 5x: this machine -----------------------------------------------------------------------------------
STORAGE_FULL = Error(
    50, "STORAGE_FULL", "The disk is full: nothing new can be recorded.",
    "Free space on the file system of the state folder; seats already held go on.", "administrator",
)
STATE_NOT_WRITABLE = Error(
    51, "STATE_NOT_WRITABLE", "The state folder cannot be written ({reason}): nothing new is granted or imported.",
    "Repair the state folder's file system or owner (chown -R licd: /var/lib/licd), then restart licd.",
    "administrator",
)
NO_DEVICE_KEY = Error(
    52, "NO_DEVICE_KEY", "This device has no key to sign with: {reason}.",
    "Repair that, then restart licd.", "administrator",
)
# --- 6x: the document and this device -------------------------------------------------------------------
OLDER_FILE = Error(
    60, "OLDER_FILE", "This license file (seq {seq}) is older than one accepted before (seq {in_force}).",
    "Use the newest license file the vendor sent.", "installer",
)
SEQ_CONFLICT = Error(
    61, "SEQ_CONFLICT", "Another license file with the same number (seq {seq}) was accepted before.",
    "Ask the vendor: two different files must not carry one number.", "vendor",
)
ISSUED_IN_FUTURE = Error(
    62, "ISSUED_IN_FUTURE", "The document says it was issued on {issued}, but today is {today}.",
    "Check this device's clock; if it is right, ask the vendor.", "installer",
)
WRONG_DEVICE = Error(
    63, "WRONG_DEVICE", "This is not the device that the license file of {vendor} is for: {reason}.",
    "licd-cli fingerprint explains it. If this device is to have the licenses: licd-cli license-request export, and "
    "send that to the vendor.", "installer",
)
IMPORT_BUSY = Error(
    64, "IMPORT_BUSY", "Another import is under way.",
    "Try again in a second.", "installer",
)
NOT_IN_FORCE = Error(
    65, "NOT_IN_FORCE", "No license file of {vendor} is in force.",
    "Import one first: licd-cli license import FILE.", "installer",
)
OLDER_INSTALL_REQUEST = Error(
    66, "OLDER_INSTALL_REQUEST", "This install request ({issued}) is older than the one taken in before ({current}).",
    "Use the newest install request the vendor sent.", "installer",
)
NO_INSTALL_REQUEST = Error(
    67, "NO_INSTALL_REQUEST", "There is no install request of {vendor}.",
    "Ask the vendor for one, then: licd-cli install-request import FILE.", "installer",
)
WRONG_DOCUMENT = Error(
    68, "WRONG_DOCUMENT", "It is {found}, not {wanted}.",
    "An install request goes into licd-cli install-request import, a license file into licd-cli license import, an "
    "answer to a renewal request into licd-cli renew --import, a request of this device to the vendor.", "installer",
)
ANOTHER_REQUEST = Error(
    69, "ANOTHER_REQUEST", "The document answers the request {answers}; the open one is {open}.",
    "Send the vendor the open request (licd-cli license-request export, or licd-cli renew --export FILE), and import "
    "the answer to that.", "installer",
)
# --- 7x: the vendor's side ------------------------------------------------------------------------------
WEAK_FINGERPRINT = Error(
    70, "WEAK_FINGERPRINT", "The device shows fewer than two strong factors of different kinds ({kinds}).",
    "Make more of them readable, see licd(8) THE DEVICE; or issue with --weak, if this device has no others.",
    "vendor",
)
UNKNOWN_INSTALL_REQUEST = Error(
    71, "UNKNOWN_INSTALL_REQUEST", "The license request answers the install request {id}, which is none of this store.",
    "Check that it is the right store and the right file; or send the customer a new install request.", "vendor",
)
SUPERSEDED_INSTALL_REQUEST = Error(
    72, "SUPERSEDED_INSTALL_REQUEST", "The license request answers the install request {id}, which {by} superseded.",
    "Ask for the license request that answers the newer install request, or send that again.", "vendor",
)
ANOTHER_VENDOR = Error(
    73, "ANOTHER_VENDOR", "The request is for the vendor {vendor}, not for {ours}.",
    "Give it to that vendor.", "vendor",
)
ANOTHER_DEVICE = Error(
    74, "ANOTHER_DEVICE", "The order {order} was issued to another device before: {reason}.",
    "If a person decided that this device takes its place: licd-vendor issue, or renew, with --rehost.", "vendor",
)
REHOST_LIMIT = Error(
    75, "REHOST_LIMIT", "The order {order} was moved to another device {count} times, as often as it may.",
    "Ask the customer; a person may raise the limit with licd-vendor order set.", "vendor",
)
NO_SUCH_ORDER = Error(
    76, "NO_SUCH_ORDER", "There is no order {order}.",
    "licd-vendor order list shows them.", "vendor",
)
UNKNOWN_CODE = Error(
    77, "UNKNOWN_CODE", "The vendor does not know this code, or it has expired.",
    "Check both parts of the code; if they are right, ask the vendor for a new one.", "installer",
)
CODE_USED = Error(
    78, "CODE_USED", "Licenses were issued to another device for this already.",
    "If this device takes the place of that one, ask the vendor to move the licenses (a re-host).", "installer",
)
TOO_MANY_TRIES = Error(
    79, "TOO_MANY_TRIES", "Too many codes were tried that are none; the vendor's server answers again in {seconds} s.",
    "Wait, then check the code letter by letter.", "installer",
)
# --- 9x: licd itself ------------------------------------------------------------------------------------
INTERNAL = Error(
    90, "INTERNAL", "licd made a mistake while answering {method}.",
    "Nothing was changed. Send the traceback from the system's log to the makers of licd.", "administrator",
)
# fmt: on

CATALOGUE = {row.name: row for row in tuple(globals().values()) if isinstance(row, Error)}


class Refused(Exception):
    """A named refusal: an answer, not a fault. `data` fills the sentence and travels in the answer.

    >>> raise Refused(NO_SEAT_FREE, license="kso.scales", used=3, total=3)
    """

    def __init__(self, error: Error, **data: Any) -> None:
        super().__init__(error.name)
        self.error = error
        self.data = data

    @property
    def message(self) -> str:
        return self.error.message.format_map(self.data)

    def __str__(self) -> str:
        return f"{self.error.name}: {self.message}"

    def as_map(self) -> dict[str, Any]:
        """The error as it stands on the wire.

        Shape:  {"code": int, "name": str, "message": str, "data": map}; data.next says what to do, data.who who must
        Source: licd-rpc(7) ERROR CATALOGUE
        """
        return {
            "code": self.error.code,
            "name": self.error.name,
            "message": self.message,
            "data": {**self.data, "next": self.error.next, "who": self.error.who},
        }

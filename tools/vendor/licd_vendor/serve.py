"""The vendor's service over HTTP: install request for a code, license file for a license request, renewal. By Flask.

A request is one transaction, two for a code, and it is answered when that is committed. Whatever dies before or after,
asking again goes on from what the store has: the same code gets the same install request, the same device the same
file. So no reply needs to be kept, and any number of processes serve one store.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from flask import Flask, Response, g, request
from sqlalchemy import select
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.middleware.proxy_fix import ProxyFix

from licd.license import install
from licd.license.dates import timestamp
from licd.license.document import MAX_RENEWAL_BYTES
from licd.license.renewal import verify_renewal_request
from licd.rpc.errors import ANOTHER_DEVICE, DOCUMENT_TOO_LARGE, REHOST_LIMIT, Refused
from licd_vendor import codes, issuing, keys, passphrase, problems, renewing, show, store
from licd_vendor.carried import Carried
from licd_vendor.keys import Failure, SigningKey
from licd_vendor.load import ComeAgain, Load
from licd_vendor.orders import NotIssued
from licd_vendor.tables import Store

CODE = "application/vnd.licd.code"
INSTALL_REQUEST = "application/vnd.licd.install-request"
LICENSE_REQUEST = "application/vnd.licd.license-request"
LICENSE_FILE = "application/vnd.licd.license-file"
RENEWAL_REQUEST = "application/vnd.licd.renewal-request"
RENEWAL_ANSWER = "application/vnd.licd.renewal-answer"

MAX_CODE_BYTES = 256  # a code has 22; what is longer is none, whatever stands in it
MAX_REQUEST_BYTES = 64 * 1024  # the header line of a document; a license request has no other
MAX_BODY_BYTES = MAX_RENEWAL_BYTES  # of any request, before it is known what it is

AccessLog = Callable[[str], None]


def create_app(
    folder: Path,
    database: str | Path,
    key: SigningKey,
    *,
    behind_proxy: bool = False,
    access_log: AccessLog | None = None,
) -> Flask:
    """The service of the vendor in this folder.

    behind_proxy: there is exactly one in front, and its word counts for who asks (X-Forwarded-For)
    Errors: Failure
    """
    carried, load = Carried(folder), Load()
    profile = carried.profile()
    books = store.Database(database, profile.vendor, lasting=True)
    app = Flask("licd_vendor", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.config["PROVIDE_AUTOMATIC_OPTIONS"] = False

    @app.post("/install-request")
    def install_request() -> Response:
        sent = _body(CODE, MAX_CODE_BYTES).strip()
        id, data = codes.install_request(books, profile, key, sent, address=_network(), now=time.time())
        g.ids["install_request"] = id
        return Response(data, content_type=INSTALL_REQUEST)

    @app.post("/license-file")
    def license_file() -> Response:
        asked = install.verify_license_request(_body(LICENSE_REQUEST, MAX_REQUEST_BYTES))
        g.ids["request"] = asked.id
        with books.transaction() as session:
            issued = issuing.issue(
                session, carried.profile(), key, asked, rehost=None, weak=False, many=False, once=True, now=time.time()
            )
            id, data = issued.issue.id, issued.issue.document
        g.ids["file"] = id
        return Response(carried.behind(data), content_type=LICENSE_FILE)

    @app.post("/renewal")
    def renewal() -> Response:
        asked = verify_renewal_request(_body(RENEWAL_REQUEST, MAX_RENEWAL_BYTES))
        g.ids |= {"request": asked.id, "file": asked.file}
        try:
            with books.transaction() as session:
                outcome = renewing.renew(session, carried.profile(), key, asked, now=time.time(), load=load)
            if outcome.alarm is not None:
                _note(outcome.alarm)
            answer = outcome.answer()
        except Refused as refusal:
            if refusal.error in (ANOTHER_DEVICE, REHOST_LIMIT):  # a person has to look; that takes nothing away
                raise NotIssued(str(refusal), refusal.error.next) from None
            raise
        g.ids |= {"device": answer.device, "answer": answer.kind}
        if answer.file != asked.file:
            g.ids["new_file"] = answer.file
        return Response(carried.behind(answer.data), content_type=RENEWAL_ANSWER)

    @app.get("/health")
    def health() -> dict[str, str]:
        with books.transaction() as session:
            session.scalar(select(Store.version))
        return {"status": "ok", "vendor": profile.vendor}

    _add_answers(app)
    _add_log(app, access_log or _to_stderr)
    path = (profile.url or "").partition("://")[2].partition("/")[2].strip("/")
    if path:
        app.wsgi_app = _Below(app.wsgi_app, f"/{path}")  # type: ignore[method-assign]  # as Flask's manual does it
    if behind_proxy:
        app.wsgi_app = ProxyFix(app.wsgi_app, x_for=1, x_proto=0)  # type: ignore[method-assign]  # as above
    return app


def app() -> Flask:
    """The service as the environment describes it, for any WSGI server: gunicorn 'licd_vendor.serve:app()'.

    Errors: Failure
    """
    folder = Path(os.environ.get("LICD_VENDOR_DIR", "."))
    file, log = os.environ.get("LICD_VENDOR_PASSPHRASE_FILE"), os.environ.get("LICD_VENDOR_ACCESS_LOG")
    key = keys.read_signer(folder, passphrase.read(Path(file)) if file else None, lambda _: None)
    return create_app(
        folder,
        os.environ.get("LICD_VENDOR_DATABASE") or folder / "vendor.db",
        key,
        behind_proxy=os.environ.get("LICD_VENDOR_BEHIND_PROXY") == "1",
        access_log=log_to(Path(log)) if log else None,
    )


class _Below:
    """The service also below the path of the vendor's address, where no proxy has cut that off."""

    def __init__(self, app: Callable[..., Iterable[bytes]], path: str) -> None:
        self._app = app
        self._path = path

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        path: str = environ.get("PATH_INFO", "")
        if path.startswith(f"{self._path}/"):
            environ["SCRIPT_NAME"] = environ.get("SCRIPT_NAME", "") + self._path
            environ["PATH_INFO"] = path[len(self._path) :]
        return self._app(environ, start_response)


# --- what was sent, and by whom -------------------------------------------------------------------------------------


def _body(media_type: str, most: int) -> bytes:
    """Errors: DOCUMENT_TOO_LARGE, HTTPException"""
    if request.mimetype != media_type:
        raise UnsupportedMediaType
    data = request.get_data(cache=False)
    if len(data) > most:
        raise Refused(DOCUMENT_TOO_LARGE, reason=f"more than {most} bytes")
    return data


def _address() -> str:
    text = request.remote_addr or ""
    if text.startswith("[") or text.count(":") == 1:  # some proxies write the port, too
        text = text.rpartition(":")[0] if not text.endswith("]") else text
        text = text.strip("[]")
    try:
        found = ipaddress.ip_address(text)
    except ValueError:  # a proxy may send anything, and it goes into a log
        return "-"
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def _network() -> str:
    """Who asks, as tries are counted: of IPv6 one customer has a whole /64."""
    address = _address()
    return str(ipaddress.ip_network(f"{address}/64", strict=False)) if ":" in address else address


# --- answers that are no document -----------------------------------------------------------------------------------


def _add_answers(app: Flask) -> None:
    @app.errorhandler(Refused)
    def _(refusal: Refused) -> Response:
        problem = problems.refused(refusal)
        if problem.name != refusal.error.name:
            _note(str(refusal))
        return problem.response()

    @app.errorhandler(NotIssued)
    def _(reason: NotIssued) -> Response:
        _note(str(reason))
        return problems.ASK_VENDOR.response()

    @app.errorhandler(renewing.UnknownFile)
    def _(_: renewing.UnknownFile) -> Response:
        return problems.UNKNOWN_LICENSE_FILE.response()

    @app.errorhandler(ComeAgain)
    def _(reason: ComeAgain) -> Response:
        return problems.come_again(reason.seconds).response()

    @app.errorhandler(store.Unavailable)
    def _(reason: store.Unavailable) -> Response:
        _note(str(reason))
        return problems.UNAVAILABLE.response()

    @app.errorhandler(Failure)
    def _(reason: Failure) -> Response:
        _note(f"{reason} {reason.hint}")
        return problems.SERVER_ERROR.response()

    @app.errorhandler(HTTPException)
    def _(error: HTTPException) -> Response:
        if isinstance(error, RequestEntityTooLarge):
            return problems.refused(Refused(DOCUMENT_TOO_LARGE, reason=f"more than {MAX_BODY_BYTES} bytes")).response()
        response = problems.of_http(error.code or 400).response()
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        return response

    @app.errorhandler(Exception)
    def _(_: Exception) -> Response:
        # A bug: whoever asks learns nothing of it, and the next request is served.
        traceback.print_exc(file=sys.stderr)
        return problems.SERVER_ERROR.response()


def _note(reason: str) -> None:
    """For who runs the server. What the device sent may stand in it, so nothing that plays with a terminal."""
    ids = "".join(f" {name}={id}" for name, id in g.ids.items())
    _to_stderr(f"{timestamp(time.time())} {show.plain(reason)}{ids}")


# --- the access log -------------------------------------------------------------------------------------------------


def _add_log(app: Flask, write: AccessLog) -> None:
    """A line for each request: time, address, method, path, status, bytes, milliseconds, ids of documents.

    A path that is none of ours may hold anything, a code too: it is not written. Nor is what was sent.
    """

    @app.before_request
    def _() -> None:
        g.since, g.ids = time.monotonic(), {}

    @app.after_request
    def _(response: Response) -> Response:
        # A server that closes on a body it has not read resets the connection, and the answer may be lost with it.
        with contextlib.suppress(Exception):  # also cheroot's own; the answer stands already
            request.get_data(cache=False)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Content-Type-Options"] = "nosniff"
        path = request.url_rule.rule if request.url_rule is not None else "-"
        method = request.method if request.method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS") else "-"
        words = [timestamp(time.time()), _address(), method, path, str(response.status_code)]
        words += [f"{response.content_length or 0}B", f"{1000 * (time.monotonic() - g.since):.0f}ms"]
        write(" ".join([*words, *(f"{name}={id}" for name, id in g.ids.items())]))
        return response


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")  # at once: threads write here side by side
    sys.stderr.flush()


def log_to(path: Path) -> AccessLog:
    """Lines at the end of this file, opened for each: it may be rotated at any time, and several processes write it."""

    def write(line: str) -> None:
        try:
            handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            try:
                os.write(handle, f"{line}\n".encode())
            finally:
                os.close(handle)
        except OSError as error:  # a full disk is no reason to issue nothing
            _to_stderr(f"{path} cannot be written: {error.strerror}. {line}")

    return write

"""How asking the vendor's server can end without a document."""

from __future__ import annotations

from typing import Any

# In brackets: what the data hold besides `host`.
NOT_HTTPS = "not https"  # nothing was sent (url, reason)
NO_ANSWER = "no answer"  # no address, no connection, or nothing in time (reason)
NO_PROXY = "no proxy"  # the proxy of HTTPS_PROXY leads nowhere; host is the proxy (reason)
BAD_CA_FILE = "bad ca file"  # (file, reason)
UNTRUSTED = "untrusted"  # its TLS certificate is not to be trusted, or there is no TLS (reason)
CUT = "cut"  # the connection ended before the answer was whole (reason)
REDIRECTED = "redirected"  # to where the document must not go (to, reason)
NOT_LICD = "not licd"  # something else answers in its place (reason)
TOO_LARGE = "too large"  # (limit)
BUSY = "busy"  # (seconds, or None if it did not say; and what PROBLEM has, if it said more)
FAILED = "failed"  # the server has trouble of its own (status)
PROBLEM = "problem"  # the vendor's server says no (status, name, code or None, detail, next or None)


class OnlineError(Exception):
    """No document. `kind` is one of the constants above, `data` what is known."""

    def __init__(self, kind: str, **data: Any) -> None:
        super().__init__(f"{kind}: {data}")
        self.kind = kind
        self.data = data

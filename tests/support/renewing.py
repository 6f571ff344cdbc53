"""A device in the field whose licenses are to be renewed, and what its vendor answers."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from licd.license.dates import DAY_S, timestamp
from licd.license.renewal import RenewalRequest, verify_renewal_request
from tests.support.pki import Vendor
from tests.support.site import ACME, Asked, Site

REQUIRED = {"need": "required", "every_days": 30, "grace_days": 10}
OPTIONAL = {"need": "optional", "every_days": 30, "grace_days": 10}
NONE = {"need": "none"}
HOUR_S = 3600.0

__all__ = ["DAY_S", "HOUR_S", "NONE", "OPTIONAL", "REQUIRED", "Shop"]


class Shop:
    """A site with a license file in force, which is to be renewed so.

    asked: what the file in force there answers already; else one is installed
    """

    def __init__(
        self,
        site: Site,
        vendor: Vendor = ACME,
        *,
        asked: Asked | None = None,
        renewal: Any = REQUIRED,
        **header: Any,
    ) -> None:
        self.site, self.vendor, self.name = site, vendor, vendor.vendor
        self.asked: Asked = asked or site.install(vendor, renewal=renewal, **header)

    # --- what licd says --------------------------------------------------------------------------------------

    def plan(self) -> dict[str, Any]:
        rows: list[dict[str, Any]] = self.site.call("renewal.plan")["vendors"]
        return next(row for row in rows if row["vendor"] == self.name)

    def request(self) -> RenewalRequest:
        answer = self.site.call("renewal.request", vendor=self.name)
        return verify_renewal_request(answer["document"].encode())

    def report(self, document: bytes, **params: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.site.call("renewal.report", document=document, **params)
        return answer

    def fail(self, words: str = "the network is down", **params: Any) -> dict[str, Any]:
        answer: dict[str, Any] = self.site.call("renewal.report", vendor=self.name, failure=words, **params)
        return answer

    # --- what the vendor says --------------------------------------------------------------------------------

    def unchanged(self, request: RenewalRequest, **members: Any) -> bytes:
        return self.vendor.unchanged(request, **{"issued": timestamp(self.site.now), **members})

    def refusal(self, request: RenewalRequest, **members: Any) -> bytes:
        return self.vendor.refusal(request, **{"issued": timestamp(self.site.now), **members})

    def file(self, request: RenewalRequest, seq: int = 2, /, *lines: dict[str, Any], **header: Any) -> bytes:
        """A new license file in answer to the request, of the same lines unless told."""
        members = {"renewal": REQUIRED, "issued": timestamp(self.site.now), **header}
        return self.asked.file(request, seq, lines or None, **members)

    # --- time ------------------------------------------------------------------------------------------------

    def until_due(self) -> float:
        """Time passes, while it runs, until the next attempt is due; how long that was."""
        row = self.plan()
        assert row["due"] is not None
        passed: float = seconds(row["due"]) - self.site.now + 1
        if passed > 0:
            self.site.elapse(passed)
            self.plan()  # licd sees it when it wakes up
        return passed


def seconds(stamp: str) -> float:
    """Of a timestamp of an answer, Unix seconds."""
    return datetime.fromisoformat(stamp).timestamp()

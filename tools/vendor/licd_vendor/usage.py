"""What devices told of their usage with their renewals: the most seats held at once, by license and day."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session, undefer

from licd.license.dates import later
from licd_vendor.orders import LIVE, state_of
from licd_vendor.tables import Device, Renewal


def list_usage(session: Session, customer: str | None, now: float) -> list[dict[str, Any]]:
    """Shape:  {"customer", "device": int, "license": name, "seats": int | None, "peak": int, "days": {date: int}}

    seats: of the orders that the device has now; None where it is uncounted, or has none
    days: in order; of a day that was told twice, the higher
    """
    query = select(Renewal).join(Device, Device.id == Renewal.device_id).order_by(Renewal.device_id, Renewal.at)
    query = query.options(undefer(Renewal.usage))
    if customer is not None:
        query = query.where(Device.customer_id == customer)
    found: dict[tuple[int, str], dict[str, int]] = {}
    devices: dict[int, Device] = {}
    for row in session.scalars(query):
        devices[row.device_id] = row.device
        since = row.usage["from"]
        for name, peaks in row.usage["peaks"].items():
            days = found.setdefault((row.device_id, name), {})
            for n, peak in enumerate(peaks):
                day = later(since, n)
                days[day] = max(days.get(day, 0), peak)
    return [
        {
            "customer": devices[device].customer_id,
            "device": device,
            "license": name,
            "seats": _seats(devices[device], name, now),
            "peak": max(days.values()),
            "days": dict(sorted(days.items())),
        }
        for (device, name), days in sorted(found.items())
    ]


def _seats(device: Device, name: str, now: float) -> int | None:
    live = (order for order in device.orders if state_of(order, now) == LIVE)
    return sum(each.seats or 0 for order in live for each in order.licenses if each.name == name) or None

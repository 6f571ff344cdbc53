"""How the tables of an older store become those of now. Each step goes from its version to the next; new tables are
made before by themselves."""

from __future__ import annotations

from sqlalchemy import text
from sqlalchemy.orm import Session

_STEPS = {
    1: (
        "ALTER TABLE orders ADD COLUMN allow_weak BOOLEAN DEFAULT FALSE NOT NULL",
        "ALTER TABLE install_requests ADD COLUMN code_id INTEGER REFERENCES codes (id)",
        "CREATE UNIQUE INDEX install_requests_code_id ON install_requests (code_id)",
    ),
    2: (
        "ALTER TABLE orders ADD COLUMN suspended VARCHAR(20)",
        "ALTER TABLE orders ADD COLUMN suspended_reason VARCHAR(200)",
        "CREATE INDEX ix_issues_key ON issues (key)",
        "CREATE INDEX ix_places_device_id ON places (device_id)",
        "CREATE INDEX ix_issued_orders_order_id ON issued_orders (order_id)",
        "CREATE INDEX ix_devices_customer_id ON devices (customer_id)",
        "CREATE INDEX ix_devices_key ON devices (key)",
    ),
}
OLDER = frozenset(_STEPS)
NEWEST = max(_STEPS) + 1


def upgrade(session: Session, version: int) -> None:
    for each in range(version, NEWEST):
        for statement in _STEPS[each]:
            session.execute(text(statement))

"""The tables as SQLAlchemy Core sees them. Migrations make them; a test holds the two together."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, MetaData, Table, Text

METADATA = MetaData()

MOST_INDEXED = 500  # characters; an index of PostgreSQL takes 2704 bytes a value, and no more


def indexed(text: str | None) -> str | None:
    """Return the beginning of ``text`` that stands in columns with an index, and is asked for.

    What senders name may be of any length; no real identifier is this long.
    """
    return text if text is None else text[:MOST_INDEXED]


def _text(name: str, *, null: bool = False) -> Column[str]:
    return Column(name, Text, nullable=null)


def _key(name: str) -> Column[str]:
    return Column(name, Text, primary_key=True)


def _big(name: str, *, null: bool = False) -> Column[int]:
    return Column(name, BigInteger, nullable=null)


def _number() -> Column[int]:
    return Column("number", BigInteger, primary_key=True, autoincrement=False)


MIGRATION = Table(
    "schema_migration",
    METADATA,
    Column("version", Integer, primary_key=True, autoincrement=False),
    _text("name"),
    _text("checksum"),
    _text("code_version"),
    _big("applied_at"),
)

COUNTER = Table("counter", METADATA, _key("name"), _big("value"))

SETTING = Table("setting", METADATA, _key("name"), _text("value"))

FINDING = Table(
    "finding",
    METADATA,
    _number(),
    _big("id"),
    _text("finding_id"),
    _text("detector"),
    _text("family"),
    Column("severity", Double),
    _big("event_time", null=True),
    _text("subject_id", null=True),
    _text("subject_type", null=True),
    _text("drug_id", null=True),
    _text("batch_no", null=True),
    _text("region", null=True),
    _text("province", null=True),
    _text("city", null=True),
    _text("jurisdiction", null=True),
    _big("code_count", null=True),
    Column("amount", Double),
    Column("late", Boolean, nullable=False),
    Column("revision", Integer, nullable=False),
    _big("first_offset"),
    _big("last_offset"),
    _big("stored_at"),
)

FINDING_DOCUMENT = Table(
    "finding_document",
    METADATA,
    Column("id", BigInteger, primary_key=True, autoincrement=False),
    _text("document"),
)

FINDING_CODE = Table(
    "finding_code",
    METADATA,
    _key("code"),
    Column("id", BigInteger, primary_key=True, autoincrement=False),
)

OUTCOME = Table(
    "outcome",
    METADATA,
    _number(),
    _text("outcome_id"),
    _text("enterprise_id", null=True),
    _big("stored_at"),
    _text("document"),
)

API_KEY = Table(
    "api_key",
    METADATA,
    _key("key_id"),
    _text("name"),
    _text("roles"),
    _text("salt"),
    _text("digest"),
    _big("created_at"),
    _big("expires_at", null=True),
    _big("revoked_at", null=True),
    _big("last_used_at", null=True),
)

AUDIT = Table(
    "audit",
    METADATA,
    _number(),
    _big("at"),
    _text("key_id"),
    _text("name"),
    _text("address"),
    _text("request_id"),
    _text("action"),
    _text("subject"),
    _text("details"),
)

REJECT = Table(
    "reject",
    METADATA,
    _number(),
    _big("record_offset"),
    _text("source"),
    _text("file", null=True),
    _big("row_number", null=True),
    _text("column_name", null=True),
    _text("reason", null=True),
    _text("detail", null=True),
    _text("raw", null=True),
    _big("stored_at"),
)

WEBHOOK = Table(
    "webhook",
    METADATA,
    _key("webhook_id"),
    _text("url"),
    _text("secret"),
    _text("filters"),
    Column("active", Boolean, nullable=False),
    _big("created_at"),
    _text("created_by"),
    _big("queued_through"),
    _text("disabled_reason", null=True),
)

DELIVERY = Table(
    "delivery",
    METADATA,
    _number(),
    _text("webhook_id"),
    _text("event_key"),
    _text("payload"),
    _text("state"),
    Column("attempts", Integer, nullable=False),
    _big("next_attempt"),
    _text("last_error", null=True),
    _big("created_at"),
    _big("done_at", null=True),
)

PLAN = Table(
    "plan",
    METADATA,
    _number(),
    _text("plan_id"),
    _big("made_at"),
    _text("made_by"),
    _text("document"),
)

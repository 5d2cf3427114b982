"""The tables, as SQLAlchemy Core metadata. Columns named `sealed_*` hold only what `authsvc.sealing`
produced.

Times are Unix seconds. Ids and hashes are exact bytes.
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

enrolments = Table(
    "enrolments",
    metadata,
    Column("id", LargeBinary(16), primary_key=True),
    Column("status", Text, nullable=False),
    Column("status_reason", Text),
    Column("label", Text, nullable=False),
    Column("profile_name", Text, nullable=False),
    Column("code_hash", LargeBinary(32), nullable=False),
    Column("signing_key", LargeBinary(65), nullable=False),
    Column("next_signing_key", LargeBinary(65)),
    Column("epoch", Integer, nullable=False),
    Column("base_ot_id", LargeBinary(16)),
    Column("sealed_base_ot", LargeBinary),
    Column("sealed_pending_base_ot", LargeBinary),
    Column("pending_base_ot_id", LargeBinary(16)),
    Column("sealed_template", LargeBinary),
    Column("last_index", BigInteger, nullable=False),
    Column("confirmed_index", BigInteger),
    Column("confirmed_token_hash", LargeBinary(32)),
    Column("consecutive_failures", Integer, nullable=False),
    Column("last_attempt_at", Double),
    Column("template_attempts", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("audit_seq", BigInteger, nullable=False),
    Column("audit_hash", LargeBinary(32), nullable=False),
    Column("rotated_base_ot_id", LargeBinary(16)),
    Column("templates", Integer),
    Column("change_challenge", LargeBinary(32)),
    Column("sealed_change", LargeBinary),
    Index("ix_enrolments_created_at_id", "created_at", "id"),
)

credentials = Table(
    "credentials",
    metadata,
    Column("id", LargeBinary(64), primary_key=True),
    Column("enrolment_id", LargeBinary(16), ForeignKey("enrolments.id"), nullable=False, index=True),
    Column("rp_id", Text, nullable=False),
    Column("algorithm", Integer, nullable=False),
    Column("modulus", LargeBinary, nullable=False),
    Column("exponent", Integer, nullable=False),
    Column("sealed_share", LargeBinary),
    Column("status", Text, nullable=False),
    Column("sign_count", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("ceremony_id", LargeBinary(16), index=True),
    Column("not_after", BigInteger),
)

logins = Table(
    "logins",
    metadata,
    Column("enrolment_id", LargeBinary(16), ForeignKey("enrolments.id"), nullable=False),
    Column("ot_index", BigInteger, nullable=False),
    Column("credential_id", LargeBinary(64), nullable=False),
    Column("at", Double, nullable=False),
    Column("cost", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("token_hash", LargeBinary(32)),
    Column("sealed_rho", LargeBinary),
    Column("request_hash", LargeBinary(32), nullable=False),
    Column("confirmed_at", Double),
    PrimaryKeyConstraint("enrolment_id", "ot_index"),
    # The budgets count unconfirmed attempts, and confirming looks for pending and void ones: few rows beside
    # a long history of good logins, so they have an index that leaves those out.
    Index(
        "ix_logins_unconfirmed",
        "enrolment_id",
        "state",
        "at",
        "cost",
        sqlite_where=text("state <> 'confirmed'"),
        postgresql_where=text("state <> 'confirmed'"),
    ),
    sqlite_with_rowid=False,
)

codes = Table(
    "codes",
    metadata,
    Column("code_hash", LargeBinary(32), primary_key=True),
    Column("purpose", Text, nullable=False),
    Column("enrolment_id", LargeBinary(16)),
    Column("label", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("used_at", Double),
    Column("attempts", Integer, nullable=False, server_default="0"),
)

events = Table(
    "events",
    metadata,
    # SQLite numbers rows by itself only where the type is exactly INTEGER, which has 64 bits there.
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", Double, nullable=False, index=True),
    Column("enrolment_id", LargeBinary(16)),
    Column("name", Text, nullable=False),
    Column("detail", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("hash", LargeBinary(32), nullable=False),
    # Two transactions can never both append the same number, whatever they read before.
    Index("ix_events_chain", "enrolment_id", "seq", unique=True),
    Index(
        "ix_events_server_chain",
        "seq",
        unique=True,
        sqlite_where=text("enrolment_id IS NULL"),
        postgresql_where=text("enrolment_id IS NULL"),
    ),
)

audit_checkpoints = Table(
    "audit_checkpoints",
    metadata,
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Double, nullable=False),
    Column("last_event_id", BigInteger, nullable=False),
    Column("document", LargeBinary, nullable=False),
)

server_state = Table(
    "server_state",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", LargeBinary, nullable=False),
)

recipients = Table(
    "recipients",
    metadata,
    Column("id", LargeBinary(32), primary_key=True),
    Column("suite", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("sealed_key", LargeBinary),
    Column("created_at", Double, nullable=False),
    Column("retired_at", Double),
)

ceremonies = Table(
    "ceremonies",
    metadata,
    Column("ceremony_id", LargeBinary(16), primary_key=True),
    Column("revision", Integer, nullable=False),
    Column("manifest_hash", LargeBinary(32), nullable=False),
    Column("signing_key", LargeBinary(32), nullable=False),
    Column("imported_at", Double, nullable=False),
    Column("revoked_at", Double),
)

api_tokens = Table(
    "api_tokens",
    metadata,
    Column("id", LargeBinary(16), primary_key=True),
    Column("name", Text, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("secret_hash", LargeBinary(32), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("revoked_at", Double),
    Column("last_used_at", Double),
)

console_sessions = Table(
    "console_sessions",
    metadata,
    Column("id_hash", LargeBinary(32), primary_key=True),
    Column("token_id", LargeBinary(16), nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double, nullable=False),
)

rate_limits = Table(
    "rate_limits",
    metadata,
    Column("key", LargeBinary(32), primary_key=True),
    Column("full_at", Double, nullable=False, index=True),
    sqlite_with_rowid=False,
)

data_keys = Table(
    "data_keys",
    metadata,
    Column("owner_id", LargeBinary(32), primary_key=True),
    Column("kek_id", LargeBinary(16), nullable=False, index=True),
    Column("wrapped", LargeBinary, nullable=False),
)

keks = Table(
    "keks",
    metadata,
    Column("id", LargeBinary(16), primary_key=True),
    Column("status", Text, nullable=False),
    Column("since", Double, nullable=False),
)

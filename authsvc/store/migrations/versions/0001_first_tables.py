"""The first tables: enrolments, credentials, logins, codes, events, server state."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create every table."""
    op.create_table(
        "enrolments",
        sa.Column("id", sa.LargeBinary(16), nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("status_reason", sa.Text),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("profile_name", sa.Text, nullable=False),
        sa.Column("code_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("signing_key", sa.LargeBinary(65), nullable=False),
        sa.Column("next_signing_key", sa.LargeBinary(65)),
        sa.Column("epoch", sa.Integer, nullable=False),
        sa.Column("base_ot_id", sa.LargeBinary(16)),
        sa.Column("sealed_base_ot", sa.LargeBinary),
        sa.Column("sealed_pending_base_ot", sa.LargeBinary),
        sa.Column("pending_base_ot_id", sa.LargeBinary(16)),
        sa.Column("sealed_template", sa.LargeBinary),
        sa.Column("last_index", sa.BigInteger, nullable=False),
        sa.Column("confirmed_index", sa.BigInteger),
        sa.Column("confirmed_token_hash", sa.LargeBinary(32)),
        sa.Column("consecutive_failures", sa.Integer, nullable=False),
        sa.Column("last_attempt_at", sa.Double),
        sa.Column("template_attempts", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_enrolments"),
    )
    op.create_table(
        "credentials",
        sa.Column("id", sa.LargeBinary(64), nullable=False),
        sa.Column("enrolment_id", sa.LargeBinary(16), nullable=False),
        sa.Column("rp_id", sa.Text, nullable=False),
        sa.Column("algorithm", sa.Integer, nullable=False),
        sa.Column("modulus", sa.LargeBinary, nullable=False),
        sa.Column("exponent", sa.Integer, nullable=False),
        sa.Column("sealed_share", sa.LargeBinary),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("sign_count", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_credentials"),
        sa.ForeignKeyConstraint(["enrolment_id"], ["enrolments.id"], name="fk_credentials_enrolment_id"),
    )
    op.create_index("ix_credentials_enrolment_id", "credentials", ["enrolment_id"])
    op.create_table(
        "logins",
        sa.Column("enrolment_id", sa.LargeBinary(16), nullable=False),
        sa.Column("ot_index", sa.BigInteger, nullable=False),
        sa.Column("credential_id", sa.LargeBinary(64), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("cost", sa.Integer, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("token_hash", sa.LargeBinary(32)),
        sa.Column("sealed_rho", sa.LargeBinary),
        sa.Column("request_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("confirmed_at", sa.Double),
        sa.PrimaryKeyConstraint("enrolment_id", "ot_index", name="pk_logins"),
        sa.ForeignKeyConstraint(["enrolment_id"], ["enrolments.id"], name="fk_logins_enrolment_id"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "ix_logins_unconfirmed",
        "logins",
        ["enrolment_id", "state", "at", "cost"],
        sqlite_where=sa.text("state <> 'confirmed'"),
        postgresql_where=sa.text("state <> 'confirmed'"),
    )
    op.create_table(
        "codes",
        sa.Column("code_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("purpose", sa.Text, nullable=False),
        sa.Column("enrolment_id", sa.LargeBinary(16)),
        sa.Column("label", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("used_at", sa.Double),
        sa.PrimaryKeyConstraint("code_hash", name="pk_codes"),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("enrolment_id", sa.LargeBinary(16)),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("detail", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
    )
    op.create_index("ix_events_enrolment_id", "events", ["enrolment_id"])
    op.create_table(
        "server_state",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("value", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_server_state"),
    )


def downgrade() -> None:
    """Remove every table, and with them every share this server holds."""
    for table in ("server_state", "events", "codes", "logins", "credentials", "enrolments"):
        op.drop_table(table)

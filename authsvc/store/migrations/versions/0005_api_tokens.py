"""Tokens of the admin API, sessions of the console, and which base OT the last template rotation put in place."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables, add the column, and an index for pages of enrolments.

    What is left of an enrolment that was erased before somebody went back is told from a revoked one again.
    """
    op.create_table(
        "api_tokens",
        sa.Column("id", sa.LargeBinary(16), nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
        sa.Column("last_used_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_api_tokens"),
    )
    op.create_table(
        "console_sessions",
        sa.Column("id_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("token_id", sa.LargeBinary(16), nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id_hash", name="pk_console_sessions"),
    )
    op.add_column("enrolments", sa.Column("rotated_base_ot_id", sa.LargeBinary(16)))
    op.create_index("ix_enrolments_created_at_id", "enrolments", ["created_at", "id"])
    op.execute(
        "UPDATE enrolments SET status = 'erased' WHERE status = 'revoked'"
        " AND id IN (SELECT enrolment_id FROM events WHERE name = 'enrolment_erased')"
    )


def downgrade() -> None:
    """Remove them: every token and session ends, and a rotation whose answer was lost cannot be told any more.

    The older code knows neither rotations, nor their codes and logins, nor erased enrolments. Unused rotation codes
    go, a login that signed for nobody becomes an ordinary one, a rotation that was begun in service is given up, and
    what is left of an erased enrolment becomes a revoked one.
    """
    op.execute("DELETE FROM codes WHERE purpose IN ('rotate', 'rotate_unmatched')")
    op.execute("UPDATE logins SET kind = 'get' WHERE kind IN ('rotate', 'verify')")
    op.execute(
        "UPDATE enrolments SET sealed_pending_base_ot = NULL, pending_base_ot_id = NULL"
        " WHERE status IN ('active', 'quarantined')"
    )
    op.execute("UPDATE enrolments SET status = 'revoked' WHERE status = 'erased'")
    op.drop_index("ix_enrolments_created_at_id", "enrolments")
    op.drop_column("enrolments", "rotated_base_ot_id")
    op.drop_table("console_sessions")
    op.drop_table("api_tokens")

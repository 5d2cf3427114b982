"""How many templates an enrolment has, and the change of them that its device has announced."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from authsvc.store.migrate import DowngradeRefused

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

# Of what is left of erased and revoked ones nobody reads a template again.
_OTHER_NUMBER = """
    SELECT count(*) FROM enrolments WHERE status NOT IN ('revoked', 'erased') AND id IN (
        SELECT enrolment_id FROM events WHERE name IN ('template_added', 'template_removed')
        GROUP BY enrolment_id HAVING sum(CASE name WHEN 'template_added' THEN 1 ELSE -1 END) <> 0
    )
"""


def upgrade() -> None:
    """Add the columns. Enrolments that exist have as many templates as their profile says, which no migration knows."""
    op.add_column("enrolments", sa.Column("templates", sa.Integer))
    op.add_column("enrolments", sa.Column("change_challenge", sa.LargeBinary(32)))
    op.add_column("enrolments", sa.Column("sealed_change", sa.LargeBinary))


def downgrade() -> None:
    """Remove them. Raises DowngradeRefused if an enrolment has another number of templates than it began with.

    The older code takes the number from the profile, and could open no such share. To a device whose change was not
    confirmed yet it is as if it had never been heard of: its templates stay as they are on both sides.
    """
    found = op.get_bind().execute(sa.text(_OTHER_NUMBER)).scalar_one()
    if found:
        raise DowngradeRefused(
            f"{found} enrolments have another number of templates than they began with, which revision 0006 cannot"
            " read; have their devices remove what was added, or revoke them, first"
        )
    op.execute("UPDATE logins SET state = 'failed', token_hash = NULL, sealed_rho = NULL"
               " WHERE kind = 'change' AND state IN ('pending', 'failed')")  # fmt: skip
    op.execute("UPDATE logins SET kind = 'get' WHERE kind = 'change'")
    for column in ("sealed_change", "change_challenge", "templates"):
        op.drop_column("enrolments", column)

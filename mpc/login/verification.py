"""A match for its own sake: a login that shows who is there, and signs for nobody."""

from __future__ import annotations

from mpc.primitives.hashing import tagged_hash


def verification_challenge(enrolment_id: bytes) -> bytes:
    """The 32 bytes that stand for the client data hash in such a login.

    No client data have this hash, so the joint signature over it is good at no relying party. Nothing in it needs to be
    fresh: an index serves one login, so an answer cannot be had twice.
    """
    return tagged_hash("tandem verification v1", enrolment_id)

"""Naming a one-time code: how often one may be tried, and how often an address may be wrong.

Nobody finds a code of 100 bits by trying. What the limits are for: a code that was seen over somebody's shoulder starts
few enrolments before its owner is told that it no longer works, and a stranger who makes codes up is told so a few
times an hour and then has to wait. Unknown, used, expired and exhausted codes are all answered alike, after the same
queries; only a code that could still be used is written to.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..codes import code_hash
from ..errors import Refused
from ..store.codes import CodePurpose, count_try, find_code
from .context import ServiceContext, SignedRequest
from .rate_limits import by_wrong_codes, give_back, spend


@dataclass(frozen=True, slots=True)
class TriedCode:
    """A code that could be used now. hash: its id; label: the operator's, for whom it is."""

    hash: bytes
    purpose: CodePurpose
    label: str


def try_code(
    ctx: ServiceContext, request: SignedRequest, text: str, *purposes: CodePurpose, enrolment_id: bytes | None = None
) -> TriedCode:
    """The code, with one more try counted; it is not used up. It must be for one of the purposes.

    enrolment_id: the one that the code must be for. Raises Refused("bad_enrolment_code"), or Refused("throttled") if
    the address of the request has named too many wrong ones.
    """
    # Taken before the look, and given back for a good code, so that parallel guesses cannot all be let in.
    rate = by_wrong_codes(ctx.policy.limits) if request.address is not None else None
    subject = (request.address or "").encode()
    spend(ctx, rate, subject)
    now, at_most = ctx.clock(), ctx.policy.limits.enrolment_code_attempts
    hashed = code_hash(text)
    for purpose in purposes if hashed is not None else ():
        assert hashed is not None
        with ctx.store.read() as conn:
            found = find_code(conn, hashed, purpose, now, at_most)
        if found is not None and found.enrolment_id == enrolment_id:
            with ctx.store.write() as conn:
                code = count_try(conn, hashed, purpose, now, at_most)
            if code is not None:
                give_back(ctx, rate, subject)
                return TriedCode(hashed, purpose, code.label)
    raise Refused("bad_enrolment_code")

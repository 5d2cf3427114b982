"""The server's error answers: problem documents (RFC 9457), parsed strictly into a typed fault."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from device_sdk.errors import Advice, ServerMisbehaved, TandemError

MAX_PROBLEM_BYTES = 16 * 1024
PROBLEM_TYPE = "application/problem+json"

_U64 = Annotated[int, Field(ge=0, lt=2**64)]


class Problem(BaseModel):
    """The members of a problem document the SDK acts on.

    code: stable word, possibly one this version does not know. status: the HTTP status. retry_after_s:
    seconds to wait. last_index, epoch, sign_count: where the server stands, with the codes
    that say so. Other members,
    title and detail included, are not read: they are text for people that a server chooses freely.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    code: Annotated[str, Field(pattern=r"\A[a-z_]{1,40}\z")]
    status: Annotated[int, Field(ge=400, le=599)]
    retry_after_s: Annotated[float, Field(ge=0, le=31 * 86400, allow_inf_nan=False)] | None = None
    last_index: _U64 | None = None
    epoch: _U64 | None = None
    sign_count: _U64 | None = None


class ServerProblem(TandemError):
    """The server answered with a problem document / look at `problem.code`; the advice follows from it."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        self.code = problem.code
        self.advice = _ADVICE.get(problem.code, Advice.RETRY if problem.status >= 500 else Advice.STOP)
        # The code is limited to [a-z_], so it is safe to repeat.
        super().__init__(f"the server refused the request: {problem.code} (HTTP status {problem.status})")


# Codes not listed: a fault of the server (5xx) may pass, anything else will not get better by repeating.
_ADVICE = {
    "throttled": Advice.ASK_USER,
    "bad_enrolment_code": Advice.ASK_USER,
    "profile_changed": Advice.RETRY,
}


def parse_problem(body: bytes, *, expected_status: int) -> Problem:
    """Read a problem document. Raises `ServerMisbehaved` when it is malformed or names another status."""
    try:
        problem = Problem.model_validate_json(body)
    except ValidationError:
        raise ServerMisbehaved("bad_problem_document") from None  # pydantic's text quotes the document
    if problem.status != expected_status:
        raise ServerMisbehaved("bad_problem_document")
    return problem

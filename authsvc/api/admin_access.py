"""Which route of the admin API asks for which scope. A route that does not stand here is not reachable at all."""

from __future__ import annotations

from dataclasses import dataclass
from re import Pattern
from typing import Final

from starlette.routing import compile_path

from ..tokens import Scope

PREFIX = "/v1/admin"
METRICS_PATH = "/metrics"
GUARDED = (PREFIX, METRICS_PATH)
"""What begins like one of these is behind a token."""

ANYBODY: Final = frozenset(Scope)
READING: Final = frozenset({Scope.OPERATOR, Scope.AUDITOR})
CODES: Final = frozenset({Scope.PROVISIONER, Scope.OPERATOR})
OPERATING: Final = frozenset({Scope.OPERATOR})
PROVISIONING: Final = frozenset({Scope.PROVISIONER})

ACCESS: Final[dict[tuple[str, str], frozenset[Scope]]] = {
    ("GET", "/token"): ANYBODY,
    ("POST", "/enrolment-codes"): PROVISIONING,
    ("GET", "/codes"): ANYBODY,
    ("POST", "/codes/{code_id}/withdraw"): CODES,
    ("GET", "/enrolments"): READING,
    ("POST", "/enrolments/revoke"): OPERATING,
    ("GET", "/enrolments/{enrolment_id}"): READING,
    ("POST", "/enrolments/{enrolment_id}/lift"): OPERATING,
    ("POST", "/enrolments/{enrolment_id}/rotate-template"): OPERATING,
    ("POST", "/enrolments/{enrolment_id}/revoke"): OPERATING,
    ("POST", "/enrolments/{enrolment_id}/export"): OPERATING,
    ("POST", "/enrolments/{enrolment_id}/erase"): OPERATING,
    ("POST", "/credentials/{credential_id}/revoke"): OPERATING,
    ("GET", "/relying-parties/{rp_id}"): READING,
    ("POST", "/relying-parties/{rp_id}/revoke"): OPERATING,
    ("GET", "/events"): READING,
    ("GET", "/provisioned-keys"): ANYBODY,
    ("POST", "/provisioned-keys/revoke"): OPERATING,
    ("GET", "/recipients"): ANYBODY,
}
"""(method, path below the prefix) → the scopes of which a token must have one. For codes, see also `code_purposes`."""


@dataclass(frozen=True, slots=True)
class Listed:
    """What the table says of a path: the scopes for each method."""

    by_method: dict[str, frozenset[Scope]]


def listed(path: str) -> Listed | None:
    """The entry for a request's path, prefix included; None if no route has such a path."""
    for pattern, by_method in _PATTERNS:
        if pattern.match(path):
            return Listed(by_method)
    return None


def _compiled() -> list[tuple[Pattern[str], dict[str, frozenset[Scope]]]]:
    by_path: dict[str, dict[str, frozenset[Scope]]] = {}
    for (method, path), scopes in ACCESS.items():
        by_path.setdefault(path, {})[method] = scopes
    # Fixed paths before those with parameters, as in the router.
    ordered = sorted(by_path.items(), key=lambda item: item[0].count("{"))
    patterns = [(compile_path(PREFIX + path)[0], by_method) for path, by_method in ordered]
    return [*patterns, (compile_path(METRICS_PATH)[0], {"GET": READING})]


_PATTERNS = _compiled()

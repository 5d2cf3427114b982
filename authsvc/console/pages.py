"""Which address shows what, and what a visitor must have for it. An address that is not here does not exist."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from starlette.responses import Response
from starlette.routing import compile_path

from ..services.console_sessions import SCOPES
from ..tokens import Scope
from . import actions, audit, codes, enrolments, inventory, overview, sign_in, static_files, tokens
from .visits import Visit

Show = Callable[[Visit], Response]
OPERATING: Final = frozenset({Scope.OPERATOR})
PROVISIONING: Final = frozenset({Scope.PROVISIONER})


@dataclass(frozen=True, slots=True)
class View:
    """What answers a method. needs: scopes of which the visitor must have one; None for everybody, signed in or not."""

    show: Show
    needs: frozenset[Scope] | None


@dataclass(frozen=True, slots=True)
class Page:
    """An address below /console."""

    path: str
    views: Mapping[str, View]
    is_file: bool = False

    @property
    def is_open(self) -> bool:
        """Whether it is reached without a session."""
        return all(view.needs is None for view in self.views.values())


def _reading(path: str, show: Show) -> Page:
    return Page(path, {"GET": View(show, SCOPES)})


def _action(path: str, ask: Show, do: Show, needs: frozenset[Scope] = OPERATING) -> Page:
    """A page that asks, and what happens when its button is pressed; nothing happens on GET."""
    return Page(path, {"GET": View(ask, needs), "POST": View(do, needs)})


_ENROLMENT: Final = "/enrolments/{enrolment_id}"
PAGES: Final[tuple[Page, ...]] = (
    Page("/sign-in", {"GET": View(sign_in.ask, None), "POST": View(sign_in.do, None)}),
    Page("/style.css", {"GET": View(static_files.style, None)}, is_file=True),
    Page("/mark.svg", {"GET": View(static_files.mark, None)}, is_file=True),
    Page("/sign-out", {"POST": View(sign_in.leave, SCOPES)}),
    _reading("", overview.show),
    _reading("/enrolments", enrolments.search),
    _reading(_ENROLMENT, enrolments.show),
    _action(_ENROLMENT + "/lift", actions.ask_lift, actions.lift),
    _action(_ENROLMENT + "/rotate-template", actions.ask_rotate, actions.rotate),
    _action(_ENROLMENT + "/revoke", actions.ask_revoke, actions.revoke),
    _action(_ENROLMENT + "/erase", actions.ask_erase, actions.erase),
    _action(_ENROLMENT + "/export", actions.ask_export, actions.export),
    _action(
        _ENROLMENT + "/credentials/{credential_id}/revoke", actions.ask_revoke_credential, actions.revoke_credential
    ),
    _reading("/codes", codes.show),
    _action("/codes/new", codes.ask, codes.issue, PROVISIONING),
    _action("/codes/{code_id}/withdraw", codes.ask_withdraw, codes.withdraw),
    _reading("/keys", inventory.show),
    _reading("/keys/{ceremony_id}", inventory.show_ceremony),
    _reading("/audit", audit.show),
    _reading("/tokens", tokens.show),
)
# Fixed addresses before those with variable parts.
_PATTERNS: Final = [
    (compile_path(page.path or "/")[0], page) for page in sorted(PAGES, key=lambda p: p.path.count("{"))
]


def find_page(path: str) -> tuple[Page | None, dict[str, str]]:
    """The page at a path below the prefix, and the path's variable parts."""
    for pattern, page in _PATTERNS:
        found = pattern.match(path or "/")
        if found:
            return page, found.groupdict()
    return None, {}

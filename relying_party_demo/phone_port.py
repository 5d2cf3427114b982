"""The port behind "sign in with the simulated phone": what the site asks of a phone and what it is told."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

Who = Literal["owner", "impostor"]


@dataclass(frozen=True, slots=True)
class Step:
    """One part of a ceremony and the wall time it took, in milliseconds."""

    name: str
    ms: float


@dataclass(frozen=True, slots=True)
class WhatEachPartySaw:
    """What the two halves of the authenticator held and sent, for the page that shows it.

    The template shares are packed bits, least significant bit first, `code_bits` of them; None where a party's
    view is not at hand. `bytes_up` and `bytes_down` count the bodies between the phone and the authentication
    server. `signature_hex` is empty if none was released. Both shares together are the template, hence the
    repr hides them; a page may show them only because the person is simulated.
    """

    code_bits: int
    device_template_share: bytes | None = field(repr=False)
    server_template_share: bytes | None = field(repr=False)
    bytes_up: int
    bytes_down: int
    steps: tuple[Step, ...]
    signature_hex: str


@dataclass(frozen=True, slots=True)
class PhoneOutcome:
    """Either `response`, the WebAuthn JSON form for the relying party, or `refusal`, a sentence that says why.

    `refusal_code` is the stable word for the reason, empty where there is a response.
    """

    response: dict[str, Any] | None
    refusal: str | None
    seen: WhatEachPartySaw
    refusal_code: str = ""


class Phone(Protocol):
    """A phone that can be asked for passkeys. Calls may come from several threads and may block.

    `options` is the WebAuthn JSON form the site would hand to a browser and `origin` the site's address. A
    refusal is an outcome, not an exception.
    """

    def register(self, options: dict[str, Any], origin: str) -> PhoneOutcome: ...

    def sign_in(self, options: dict[str, Any], origin: str, who: Who) -> PhoneOutcome: ...

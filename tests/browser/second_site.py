"""A second relying party, written on fido2.server: one page, four addresses, accounts in memory."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fido2.server import Fido2Server
from fido2.webauthn import (
    AttestationConveyancePreference,
    AttestedCredentialData,
    AuthenticationResponse,
    PublicKeyCredentialRpEntity,
    PublicKeyCredentialUserEntity,
    RegistrationResponse,
)
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route

_PAGE = Path(__file__).with_suffix(".html")


@dataclass
class SecondSite:
    """The site at `origin`. One visitor at a time: what is pending belongs to whoever asked last."""

    rp_id: str
    users: dict[str, tuple[bytes, list[AttestedCredentialData]]] = field(default_factory=dict)
    counters: dict[bytes, int] = field(default_factory=dict)
    attestation_formats: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        entity = PublicKeyCredentialRpEntity(id=self.rp_id, name="Second site")
        self.server = Fido2Server(entity, attestation=AttestationConveyancePreference.DIRECT)
        self._pending: dict[str, Any] = {}

    def application(self) -> Starlette:
        async def page(request: Request) -> Response:
            return HTMLResponse(_PAGE.read_text(encoding="utf-8"))

        steps = {
            "/register/begin": self.register_begin,
            "/register/complete": self.register_complete,
            "/login/begin": self.login_begin,
            "/login/complete": self.login_complete,
        }

        async def step(request: Request) -> Response:
            try:
                return JSONResponse(steps[request.url.path](json.loads(await request.body())))
            except Exception as error:
                return JSONResponse({"error": f"{type(error).__name__}: {error}"}, status_code=400)

        return Starlette(routes=[Route("/", page), *(Route(path, step, methods=["POST"]) for path in steps)])

    def register_begin(self, body: dict[str, Any]) -> dict[str, Any]:
        name = body["name"]
        handle, held = self.users.get(name, (secrets.token_bytes(16), []))
        user = PublicKeyCredentialUserEntity(id=handle, name=name, display_name=name.title())
        options, state = self.server.register_begin(
            user, held, resident_key_requirement="required", user_verification="required"
        )
        self._pending = {"state": state, "name": name, "handle": handle}
        return json.loads(json.dumps(dict(options)))

    def register_complete(self, body: dict[str, Any]) -> dict[str, Any]:
        response = RegistrationResponse.from_dict(body)
        verified = self.server.register_complete(self._pending["state"], response)
        assert verified.credential_data is not None
        name, handle = self._pending["name"], self._pending["handle"]
        self.attestation_formats.append(response.response.attestation_object.fmt)
        self.users.setdefault(name, (handle, []))[1].append(verified.credential_data)
        self.counters[verified.credential_data.credential_id] = verified.counter
        return {"name": name}

    def login_begin(self, body: dict[str, Any]) -> dict[str, Any]:
        held = self.users[body["name"]][1] if body["name"] else None
        options, state = self.server.authenticate_begin(held, user_verification="required")
        self._pending = {"state": state}
        return json.loads(json.dumps(dict(options)))

    def login_complete(self, body: dict[str, Any]) -> dict[str, Any]:
        response = AuthenticationResponse.from_dict(body)
        everybody = [credential for _, held in self.users.values() for credential in held]
        used = self.server.authenticate_complete(self._pending["state"], everybody, response)
        counter = response.response.authenticator_data.counter
        assert counter > self.counters[used.credential_id], "the counter did not grow"
        self.counters[used.credential_id] = counter
        name = next(name for name, (_, held) in self.users.items() if used in held)
        handle = response.response.user_handle
        assert handle in (None, self.users[name][0]), "another user's handle"
        return {"name": name}

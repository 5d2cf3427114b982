"""`/openapi.json`: the framework's description of what it serves, and with it the protocol's addresses.

The protocol's bodies are CBOR; `message_schemas` reads their fields off the code that decodes them. Problem documents
are listed by code for every address, so that a client's author sees what to be ready for.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.responses import JSONResponse

from mpc.garbling.hashing import LABEL_BYTES, tables_bytes
from mpc.login.attestation import MAX_BOX_BYTES
from mpc.login.enrolment_messages import (
    Accepted,
    AddCredential,
    BaseOtOffer,
    EnrolmentFinish,
    EnrolmentStart,
    RecoveryFinish,
    RecoveryStart,
    RevokeCredential,
)
from mpc.login.history import HistoryPage, HistoryRequest
from mpc.login.messages import Acknowledgement, Message1, Message2, Message3, u_bytes
from mpc.login.profile import Profile
from mpc.login.provisioned_messages import AdoptKey, PairShares
from mpc.login.rotation_messages import (
    RotationFinish,
    RotationOffer,
    RotationSettle,
    RotationSettled,
    RotationStart,
)
from mpc.login.session import sealed_bytes
from mpc.login.template_messages import AddTemplate, RemoveTemplate
from mpc.parameters import MAX_MODULUS_BITS, MIN_MODULUS_BITS
from mpc.threshold_rsa.public_key import PublicKey

from ..errors import PROBLEMS
from ..policy import Policy
from ..services.request_authentication import ALGORITHM, COMPONENTS, LABEL, TAG
from .admin_access import GUARDED, METRICS_PATH, PREFIX
from .message_schemas import Schema, described, sizes
from .problems import PROBLEM_TYPE

PATH = "/openapi.json"
_CBOR = "application/cbor"


@dataclass(frozen=True, slots=True)
class ProtocolAddress:
    """One POST of the protocol: the messages there and back, and the problems that its use case tells."""

    path: str
    summary: str
    request: str
    answer: str
    codes: tuple[str, ...]


ADDRESSES = (
    ProtocolAddress(
        "/v1/enrolments", "Begin an enrolment with a one-time code", "EnrolmentStart", "BaseOtOffer",
        ("bad_enrolment_code", "profile_changed"),
    ),
    ProtocolAddress(
        "/v1/enrolments/finish", "Finish an enrolment", "EnrolmentFinish", "Accepted",
        ("bad_enrolment_code", "profile_changed", "wrong_state"),
    ),
    ProtocolAddress(
        "/v1/credentials", "Add a passkey of the device's own", "AddCredential", "Accepted",
        ("not_active", "rp_not_allowed", "provisioning_required", "credential_conflict"),
    ),
    ProtocolAddress("/v1/credentials/revoke", "Give a passkey up", "RevokeCredential", "Accepted", ()),
    ProtocolAddress(
        "/v1/credentials/pair", "Show that the halves of a provisioned key fit", "PairShares", "Accepted",
        ("not_active", "rp_not_allowed", "provisioned_key_not_usable"),
    ),
    ProtocolAddress(
        "/v1/credentials/adopt", "Register with a provisioned key", "AdoptKey", "Accepted",
        ("not_active", "rp_not_allowed", "provisioned_key_not_usable", "wrong_state", "credential_conflict"),
    ),
    ProtocolAddress(
        "/v1/logins", "Log in", "Message1", "Message2",
        (
            "bad_authenticator_data", "rp_not_allowed", "provisioning_required", "not_active", "quarantined",
            "credential_not_usable", "unknown_login", "stale_index", "index_ahead", "epoch_ahead", "profile_changed",
            "base_ot_changed", "budget_spent", "wrong_state",
        ),
    ),
    ProtocolAddress(
        "/v1/confirmations", "Confirm a login", "Message3", "Acknowledgement",
        ("not_active", "quarantined", "unknown_login"),
    ),
    ProtocolAddress(
        "/v1/recoveries", "Begin a recovery with the operator's code", "RecoveryStart", "BaseOtOffer",
        ("bad_enrolment_code", "not_active", "quarantined", "unknown_login"),
    ),
    ProtocolAddress(
        "/v1/recoveries/finish", "Finish a recovery", "RecoveryFinish", "Accepted",
        ("bad_enrolment_code", "wrong_state"),
    ),
    ProtocolAddress(
        "/v1/rotations", "Begin to rotate the template with the operator's code", "RotationStart", "RotationOffer",
        ("bad_enrolment_code", "not_active"),
    ),
    ProtocolAddress(
        "/v1/rotations/finish", "Finish a rotation", "RotationFinish", "Accepted",
        ("bad_enrolment_code", "not_active", "wrong_state", "match_missing", "index_ahead"),
    ),
    ProtocolAddress(
        "/v1/rotations/settle", "Ask what became of a rotation", "RotationSettle", "RotationSettled", (),
    ),
    ProtocolAddress(
        "/v1/templates/add", "Announce a template to be added under a match", "AddTemplate", "Accepted",
        ("bad_enrolment_code", "code_required", "not_active", "too_many_templates", "profile_changed"),
    ),
    ProtocolAddress(
        "/v1/templates/remove", "Announce that a template is to go, under a match", "RemoveTemplate", "Accepted",
        ("not_active", "no_such_template", "profile_changed"),
    ),
    ProtocolAddress("/v1/history", "Read the enrolment's own history", "HistoryRequest", "HistoryPage", ()),
)  # fmt: skip
_OF_THE_PROTOCOL = (
    "malformed", "unauthenticated", "too_slow", "too_large", "unsupported_media_type", "throttled", "internal",
    "unavailable",
)  # fmt: skip
_OF_OPERATORS = (
    "malformed", "unauthenticated", "forbidden", "not_found", "method_not_allowed", "too_slow", "wrong_state",
    "wrong_confirmation", "match_impossible", "too_large", "throttled", "internal", "unavailable",
)  # fmt: skip
_OF_EVERYBODY = ("malformed", "not_found", "method_not_allowed", "throttled", "internal", "unavailable")


def describe(app: FastAPI, policy: Policy) -> None:
    """Have the application answer GET /openapi.json. The document is made at the first request, and then kept."""
    kept: list[dict[str, Any]] = []

    @app.get(PATH, include_in_schema=False)
    def answer() -> JSONResponse:
        if not kept:
            kept.append(document(app, policy))
        return JSONResponse(kept[0])


def document(app: FastAPI, policy: Policy) -> dict[str, Any]:
    """The OpenAPI 3.1 description of the application under that policy."""
    whole = get_openapi(
        title="Tandem authsvc",
        version=version("tandem-auth"),
        summary="The authentication server of Tandem: device and server sign as one WebAuthn authenticator.",
        license_info={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        routes=app.routes,
    )
    for path, operations in whole["paths"].items():
        guarded = path.startswith(GUARDED)
        for operation in operations.values():
            operation["responses"].pop("422", None)  # the framework's own form, in place of which a problem is told
            codes: Sequence[str] = _OF_OPERATORS if guarded else _OF_EVERYBODY
            if path == "/readyz":
                operation["responses"]["503"] = {
                    "description": "Not ready; which of the checks failed.",
                    "content": {"application/json": {"schema": {"type": "object"}}},
                }
                codes = ()
            operation["responses"] |= _problems(codes, but=operation["responses"])
            if guarded:
                operation["security"] = [{"bearer": []}]
    whole["paths"] |= {address.path: {"post": _operation(address)} for address in ADDRESSES}
    components = whole.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    for unused in ("HTTPValidationError", "ValidationError"):
        schemas.pop(unused, None)
    schemas |= message_schemas(policy)
    schemas["Problem"] = {
        "type": "object",
        "description": "RFC 9457. Some codes have further members; see docs/operations.md.",
        "required": ["type", "title", "status", "detail", "code"],
        "properties": {
            "type": {"type": "string", "pattern": "^urn:tandem:problem:[a-z_]+$"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "code": {"type": "string", "enum": sorted(PROBLEMS)},
        },
    }
    components["parameters"] = _signature_headers()
    components["securitySchemes"] = {
        "bearer": {"type": "http", "scheme": "bearer", "description": f"An API token, for {PREFIX} and {METRICS_PATH}."}
    }
    return whole


def message_schemas(policy: Policy) -> dict[str, Schema]:
    """Every message by its class's name. Sizes that a profile decides span those of the profiles served."""
    profiles = policy.profiles.values()
    u = [u_bytes(profile.with_templates(count)) for profile in profiles for count in profile.template_counts]
    tables = [size for profile in profiles for size in tables_by_templates(profile)]
    sealed = [sealed_bytes(PublicKey(2**bits - 1)) for bits in (MIN_MODULUS_BITS, MAX_MODULUS_BITS)]
    message_2 = partial(
        Message2.decode, tables_bytes=min(tables), sealed_bytes=min(sealed), attestation_at_most=MAX_BOX_BYTES
    )
    plain = (
        EnrolmentStart, BaseOtOffer, EnrolmentFinish, Accepted, AddCredential, RevokeCredential, PairShares, AdoptKey,
        Message3, Acknowledgement, RecoveryStart, RecoveryFinish, RotationStart, RotationOffer, RotationFinish,
        RotationSettle, RotationSettled, AddTemplate, RemoveTemplate, HistoryRequest, HistoryPage,
    )  # fmt: skip
    return {
        **{message.__name__: described(message.decode) for message in plain},
        "Message1": described(Message1.decode, u=sizes(min(u), max(u))),
        "Message2": described(
            message_2, tables=sizes(min(tables), max(tables)), sealed=sizes(min(sealed), max(sealed))
        ),
    }


def tables_by_templates(profile: Profile) -> list[int]:
    """The bytes of the tables for each number of templates there may be.

    Every template has the same gates, and joining two takes one more. Building the larger circuits would take seconds.
    """
    gate = 2 * LABEL_BYTES
    each = (tables_bytes(profile.circuit) + gate) // profile.templates
    return [count * each - gate for count in profile.template_counts]


def _operation(address: ProtocolAddress) -> dict[str, Any]:
    note = (
        "One CBOR map in canonical form (docs/protocol.md, section 3), described as RFC 8949, section 6.1, turns it"
        " into JSON; `x-cbor` tells the lengths of byte strings on the wire."
    )

    def body(message: str) -> dict[str, Any]:
        return {"description": note, "content": {_CBOR: {"schema": {"$ref": f"#/components/schemas/{message}"}}}}

    return {
        "tags": ["protocol"],
        "summary": address.summary,
        "operationId": address.path.removeprefix("/").replace("/", "_"),
        "parameters": [{"$ref": f"#/components/parameters/{name}"} for name in _signature_headers()],
        "requestBody": {"required": True, **body(address.request)},
        "responses": {"200": body(address.answer), **_problems((*_OF_THE_PROTOCOL, *address.codes))},
    }


def _problems(codes: Iterable[str], but: Iterable[str] = ()) -> dict[str, Any]:
    """The responses for these problems, by status; statuses that are described already are left out."""
    by_status: dict[str, list[str]] = {}
    for code in codes:
        by_status.setdefault(str(PROBLEMS[code].status), []).append(code)
    responses: dict[str, Any] = {}
    for status, listed in sorted(by_status.items()):
        if status in but:
            continue
        lines = "\n".join(f"- `{code}`: {PROBLEMS[code].detail}" for code in listed)
        schema = {
            "allOf": [{"$ref": "#/components/schemas/Problem"}, {"properties": {"code": {"enum": listed}}}],
        }
        responses[status] = {"description": lines, "content": {PROBLEM_TYPE: {"schema": schema}}}
        if status in ("429", "503"):
            seconds = {"description": "Seconds to wait; not with `budget_spent`.", "schema": {"type": "integer"}}
            responses[status]["headers"] = {"Retry-After": seconds}
    return responses


def _signature_headers() -> dict[str, Any]:
    covered = " ".join(f'"{name}"' for name in COMPONENTS)
    told = {
        "Content-Digest": "RFC 9530, of the body: one member, `sha-256`.",
        "Signature-Input": (
            f"RFC 9421. The member `{LABEL}` covers exactly {covered} and has the parameters created, keyid, alg"
            f" (`{ALGORITHM}`), tag (`{TAG}`) and nonce."
        ),
        "Signature": f"RFC 9421. The member `{LABEL}`: 64 bytes, r and s of ECDSA over P-256.",
    }
    return {
        name: {"name": name, "in": "header", "required": True, "description": text, "schema": {"type": "string"}}
        for name, text in told.items()
    }

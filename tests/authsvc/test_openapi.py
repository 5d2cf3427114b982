"""/openapi.json: valid, complete, and what the server does."""

from __future__ import annotations

import base64
import copy
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import cbor2
import pytest
import schemathesis
from attacker import Attacker
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate
from real_server import RP_IDS, ThreadServer, thread_server
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.config import SchemathesisConfig

from authsvc.api import openapi
from authsvc.api.admin_gate import GUARDED
from authsvc.api.message_schemas import as_json
from authsvc.api.protocol import protocol_endpoints
from authsvc.errors import PROBLEMS
from authsvc.services import api_tokens
from authsvc.tokens import Scope
from device_sdk.transport import RequestKey, signing_key_id
from device_sdk.transport.request_signing import signed_headers
from mpc.errors import DecodeError
from mpc.garbling.hashing import tables_bytes
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
from mpc.login.messages import Acknowledgement, Confirmation, LoginStatement, Message1, Message2, Message3
from mpc.login.profile import Profile
from mpc.login.provisioned_messages import AdoptKey, PairShares
from mpc.login.template import TemplateShare
from mpc.login.template_messages import AddTemplate, RemoveTemplate
from mpc.primitives import codec

ID = bytes(range(16))
CONFIRMATION = Confirmation(7, bytes(32))
_STATEMENT = LoginStatement(
    ID, ID, bytes(32), "get", bytes(32), 3, 4, bytes(37), bytes(32), bytes(32), bytes(32), bytes(32), CONFIRMATION
)
SAMPLES: dict[str, Any] = {
    "EnrolmentStart": EnrolmentStart("sim-512", bytes(32), bytes(65), "7K2QX-0M9TN-4RWB8-ZC3HD"),
    "BaseOtOffer": BaseOtOffer(ID, ID, "auth.example", bytes(8192), 2),
    "EnrolmentFinish": EnrolmentFinish(ID, ID, "7K2QX", bytes(4096), TemplateShare(bytes(64), b"")),
    "Accepted": Accepted(1, 2, ((bytes(32), 3),)),
    "AddCredential": AddCredential(ID, bytes(32), "shop.example", -257, bytes(256), 65537, bytes(282)),
    "RevokeCredential": RevokeCredential(ID, bytes(16)),
    "PairShares": PairShares(ID, bytes(32), bytes(32)),
    "AdoptKey": AdoptKey(ID, bytes(32), -37),
    "Message1": Message1(_STATEMENT, bytes(32), bytes(16 * (512 + 128)), bytes(16), bytes(2048)),
    "Message2": Message2(bytes(32), bytes(32), bytes(511 * 32), bytes(16), bytes(16), bytes(304)),
    "Message3": Message3(ID, CONFIRMATION),
    "Acknowledgement": Acknowledgement(5),
    "RecoveryStart": RecoveryStart(ID, "7K2QX", bytes(65), 4, CONFIRMATION),
    "RecoveryFinish": RecoveryFinish(ID, ID, "7K2QX", bytes(4096)),
    "AddTemplate": AddTemplate(ID, 4, bytes(32), TemplateShare(bytes(64), b""), "7K2QX"),
    "RemoveTemplate": RemoveTemplate(ID, 4, bytes(32), 1),
}
DECODERS: dict[str, Callable[[bytes], Any]] = {name: type(sample).decode for name, sample in SAMPLES.items()}
DECODERS["Message2"] = partial(Message2.decode, tables_bytes=511 * 32, sealed_bytes=304)


GROWING = [
    Profile(name="p", code_bits=512, threshold=163, encoder_id="e", thresholds=(163, 160, 158)),
    Profile(
        name="m", code_bits=512, threshold=0, encoder_id="e", templates=2, masked=True, min_valid=384,
        ratio_numerator=80, ratio_shift=8, columns=64, rotation=1, thresholds=(82, 80, 78),
    ),
]  # fmt: skip


@pytest.mark.parametrize("profile", GROWING, ids=lambda profile: profile.name)
def test_tables_of_larger_circuits_are_told_without_building_them(profile: Profile) -> None:
    built = [tables_bytes(profile.with_templates(count).circuit) for count in (1, 2, 3)]

    assert openapi.tables_by_templates(profile) == built


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ThreadServer]:
    folder = tmp_path_factory.mktemp("server")
    with thread_server(folder, allowed_rp_ids=RP_IDS) as running:
        yield running


@pytest.fixture(scope="module")
def document(server: ThreadServer) -> dict[str, Any]:
    told: dict[str, Any] = TestClient(server.app).get("/openapi.json").json()
    return told


def test_it_is_a_valid_description(document: dict[str, Any]) -> None:
    validate(document)
    assert document["openapi"].startswith("3.1")


def test_every_address_of_the_protocol_is_told_and_no_other(server: ThreadServer, document: dict[str, Any]) -> None:
    served = {endpoint.path for endpoint in protocol_endpoints(server.context)}
    assert {address.path for address in openapi.ADDRESSES} == served
    assert served <= set(document["paths"])
    assert {"/healthz", "/readyz", "/metrics", "/v1/profiles/{name}"} <= set(document["paths"])


def test_every_answer_has_a_form_and_every_problem_is_told_somewhere(document: dict[str, Any]) -> None:
    told: set[str] = set()
    for operations in document["paths"].values():
        for operation in operations.values():
            for response in operation["responses"].values():
                assert response["content"], operation["operationId"]
                for content in response["content"].values():
                    for part in content.get("schema", {}).get("allOf", ()):
                        told |= set(part.get("properties", {}).get("code", {}).get("enum", ()))
    assert told == set(PROBLEMS)


@pytest.mark.parametrize("name", SAMPLES)
def test_a_message_fits_its_description(name: str, document: dict[str, Any]) -> None:
    schema = document["components"]["schemas"][name]
    Draft202012Validator.check_schema(schema)
    wire = SAMPLES[name].encode()
    assert DECODERS[name](wire) == SAMPLES[name]
    Draft202012Validator(schema).validate(as_json(cbor2.loads(wire)))


@pytest.mark.parametrize("name", SAMPLES)
def test_what_the_decoder_refuses_the_description_refuses_too(name: str, document: dict[str, Any]) -> None:
    """Each field missing, of another type, a byte too long or short, out of range; and one that nobody knows."""
    validator = Draft202012Validator(document["components"]["schemas"][name])
    values = cbor2.loads(SAMPLES[name].encode())
    wrong: list[dict[str, Any]] = [{**values, "unknown": 1}]
    for field, value in values.items():
        wrong += [{key: other for key, other in values.items() if key != field}, {**values, field: [None]}]
        match value:
            case bytes():
                wrong += [{**values, field: value + b"\0"}, {**values, field: value[:-1]}]
            case int():
                wrong += [{**values, field: -1}, {**values, field: 2**63}]
            case str():
                wrong += [{**values, field: ""}, {**values, field: "x" * 300}]
    for each in wrong:
        try:
            DECODERS[name](codec.encode(each))
            refused = False
        except DecodeError:
            refused = True
        # Sizes that the profile decides are described as a span, and checked when the profile is known.
        differing = {key for key in values if each.get(key) != values[key]}
        if not differing & {"u", "tables", "sealed"}:
            assert validator.is_valid(as_json(each)) is not refused, differing


def _as_cbor(_context: Any, value: Any) -> bytes:
    return cbor2.dumps(_with_bytes(value), canonical=True)


schemathesis.serializer("application/cbor")(_as_cbor)


def _with_bytes(value: Any) -> Any:
    """Texts of the base64url alphabet that a description calls byte strings; others stay texts."""
    if isinstance(value, dict):
        return {key: item if key in _TEXTS else _with_bytes(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_bytes(item) for item in value]
    if isinstance(value, str):
        try:
            return base64.urlsafe_b64decode(value + "=" * (-len(value) % 4))
        except ValueError:
            return value
    return value


_TEXTS = frozenset({"profile", "code", "server_id", "rp_id", "kind"})
_EXAMPLES = 4
load_all_checks()
_CHECKS = [
    CHECKS.get_one(name)
    for name in (
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_schema_conformance",
    )
]


@pytest.mark.parametrize("who", ["nobody", "an operator and a device"])
def test_nothing_that_fits_or_misses_the_description_breaks_the_server(
    who: str, server: ThreadServer, document: dict[str, Any]
) -> None:
    """Generated requests, right and wrong: no 5xx, and no answer that is not described."""
    known = who != "nobody"
    token = api_tokens.issue_token(server.context, name="fuzz", scopes=list(Scope)).text
    schema = schemathesis.openapi.from_dict(_easy_to_generate(document), config=SchemathesisConfig())
    seen: dict[str, set[int]] = {}
    with Attacker.enrolled(server) as phone:
        phone.register()
        key, key_id = RequestKey.from_scalar(phone.state.request_key), signing_key_id(enrolment_id=phone.id)

        def once(case: Any) -> None:
            headers: dict[str, str] = {}
            if known and case.path.startswith(GUARDED):
                headers = {"authorization": f"Bearer {token}"}
            elif known and case.media_type == "application/cbor":
                if isinstance(case.body, dict) and "enrolment_id" in case.body:
                    case.body = {**case.body, "enrolment_id": as_json(phone.id)}
                case.headers.clear()  # what was generated for them would stand beside the right ones
                headers = signed_headers(
                    method="POST",
                    url=server.url + case.path,
                    content_type="application/cbor",
                    body=_as_cbor(None, case.body),
                    key=key,
                    key_id=key_id,
                    now_s=time.time(),
                )
            response = case.call(base_url=server.url, headers=headers)
            seen.setdefault(case.path, set()).add(response.status_code)
            case.validate_response(response, checks=_CHECKS)

        for found in schema.get_all_operations():
            for mode in GenerationMode:
                with suppress(Unsatisfiable):  # where nothing is sent, nothing can be wrong
                    _driven(found.ok().as_strategy(generation_mode=mode), once)
        assert phone.still_works()
    told = set().union(*seen.values())
    assert {400, 404} <= told and (known or 401 in told)
    assert len(seen) == len(document["paths"])
    assert (200 in seen["/v1/admin/enrolments"]) is known
    assert (seen["/v1/confirmations"] == {401}) is not known


def _easy_to_generate(document: dict[str, Any]) -> dict[str, Any]:
    """The same with long byte strings of one content each: their bits are the fuzzer's business, and generating
    kilobytes of them would take all the time.
    """
    easy = copy.deepcopy(document)
    for schema in easy["components"]["schemas"].values():
        for name, field in schema.get("properties", {}).items():
            if "contentEncoding" in field:
                least = field["minLength"]
                schema["properties"][name] = (
                    {"type": "string", "enum": ["A" * least]}
                    if least > 90
                    else {**field, "maxLength": min(field["maxLength"], least + 30)}
                )
    return easy


def _driven(strategy: Any, once: Callable[[Any], None]) -> None:
    run = given(strategy)(once)
    settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate],
    )(run)()

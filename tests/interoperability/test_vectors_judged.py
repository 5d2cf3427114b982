"""The values in docs/vectors, judged without our code: by other libraries, or by the formula in a line."""

from __future__ import annotations

import base64
import datetime
import hashlib
import json
import math
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import cbor2
import gmpy2
import pytest
import rfc8785
import webauthn
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from fido2 import cbor
from fido2.webauthn import AuthenticatorData
from http_message_signatures import HTTPMessageVerifier, MappingKeyResolver
from http_message_signatures.algorithms import ECDSA_P256_SHA256

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tests" / "mpc"))

from plain_hpke import X25519_KEM, key_schedule, x25519_decapsulated  # noqa: E402


def vector(topic: str) -> Any:
    return json.loads((ROOT / "docs" / "vectors" / f"{topic}.json").read_text(encoding="utf-8"))


def raw(text: str) -> bytes:
    return bytes.fromhex(text)


def number(text: str) -> int:
    return int(text, 16)


def share(text: str) -> int:
    data = raw(text)
    return (-1 if data[1] else 1) * int.from_bytes(data[2:], "big")


def framing(label: str, *parts: bytes) -> bytes:
    return bytes([len(label)]) + label.encode() + b"".join(struct.pack(">I", len(part)) + part for part in parts)


def h(label: str, *parts: bytes) -> bytes:
    return hashlib.sha256(framing(label, *parts)).digest()


def words(data: str | bytes) -> list[int]:
    """16-byte blocks as little-endian numbers: bit i of a label is bit i of the number."""
    block = raw(data) if isinstance(data, str) else data
    return [int.from_bytes(block[at : at + 16], "little") for at in range(0, len(block), 16)]


# --- encodings --------------------------------------------------------------------------------------------------


def test_framed_hashes() -> None:
    for case in vector("hashing")["framed"]:
        framed = framing(case["label"], *map(raw, case["parts"]))
        assert framed.hex() == case["framing"]
        assert hashlib.sha256(framed).hexdigest() == case["H"]
        assert hashlib.sha512(framed).hexdigest() == case["H512"]
        assert hashlib.shake_256(framed).hexdigest(50) == case["XOF of 50"]


def test_cbor_as_fido2_writes_it() -> None:
    """CTAP2's canonical form is ours, so its own library must write every good encoding, and none of the bad ones."""
    content = vector("cbor")

    for case in content["taken"]:
        assert cbor.encode(cbor2.loads(raw(case["hex"]))).hex() == case["hex"]
    assert [case["why"] for case in content["refused"] if canonical(raw(case["hex"]))] == []


def canonical(data: bytes) -> bool:
    try:
        value = cbor.decode(data)
        return cbor.encode(value) == data and is_message(value) and depth(value) <= 4
    except (ValueError, IndexError, TypeError, KeyError, struct.error):
        return False


def is_message(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(name, str) for name in value)


def depth(value: Any) -> int:
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max((1 + depth(entry) for entry in inner), default=0)


def test_decoded_messages_say_what_the_bytes_say() -> None:
    """The readable form beside each message is checked by another decoder, so that nobody ports a misprint."""
    seen = 0
    for path in (ROOT / "docs" / "vectors").glob("*.json"):
        for entry in dicts(json.loads(path.read_text(encoding="utf-8"))):
            if {"message", "hex", "decoded"} <= entry.keys():
                assert shown(cbor.decode(raw(entry["hex"]))) == entry["decoded"], entry["message"]
                assert len(raw(entry["hex"])) == entry["bytes"]
                seen += 1
    assert seen > 30


def dicts(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, list):
        return [found for entry in value for found in dicts(entry)]
    if not isinstance(value, dict):
        return []
    return [value, *(found for entry in value.values() for found in dicts(entry))]


def shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: shown(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [shown(entry) for entry in value]
    if not isinstance(value, bytes):
        return value
    if len(value) <= 320:
        return f"h'{value.hex()}'"
    return {"bytes": len(value), "sha256": hashlib.sha256(value).hexdigest()}


# --- RSA --------------------------------------------------------------------------------------------------------


def test_halves_of_keys_add_up() -> None:
    for key in vector("split-keys")["keys"]:
        p, q, d, n = (number(key[name]) for name in ("p", "q", "d", "N"))
        assert p * q == n and n.bit_length() == key["bits"] and gmpy2.is_prime(p) and gmpy2.is_prime(q)
        assert key["e"] * d % math.lcm(p - 1, q - 1) == 1
        assert share(key["d1"]) + share(key["d2"]) == d
        assert share(key["d1"]) < 0 < share(key["d2"]) < 2 ** (key["bits"] + 128)
        d2 = share(key["d2"])
        for step in key["refreshes"]:
            sid, rho = (raw(draw["value"]) for draw in step["draws"])
            framed = framing("tandem refresh v1", sid, rho, b"key", raw(step["credential_id"]))
            d2 += int.from_bytes(hashlib.shake_256(framed).digest((key["bits"] + 128) // 8), "big")
            assert (share(step["d1"]), share(step["d2"])) == (d - d2, d2)


@pytest.mark.parametrize("index", range(4))
def test_signatures_are_those_of_the_whole_key(index: int) -> None:
    case = vector("split-signatures")["signatures"][index]
    n, message, signature = number(case["N"]), raw(case["signed message"]), raw(case["s"])
    d1, d2, em = share(case["d1"]), share(case["d2"]), number(case["EM"])
    chosen: padding.AsymmetricPadding = padding.PKCS1v15()
    if case["algorithm"] == "PS256":
        chosen = padding.PSS(padding.MGF1(SHA256()), salt_length=32)

    rsa.RSAPublicNumbers(case["e"], n).public_key().verify(signature, message, chosen, SHA256())
    assert pow(em, d1 + d2, n) == int.from_bytes(signature, "big")
    assert pow(em, d1, n) == number(case["s1"]) and pow(em, d2, n) == number(case["s2"])
    assert h("tandem share v1", raw(case["draws"][1]["value"]), raw(case["s1^e"])).hex() == case["y_tag"]


# --- oblivious transfer and garbling ----------------------------------------------------------------------------


def test_the_server_has_the_key_of_its_choice_and_the_extension_holds() -> None:
    run, extension = vector("base-ot"), vector("ot-extension")
    delta = words(run["server_round_1"]["Delta"])[0]
    zeros, ones, chosen = (
        words(text)
        for text in (run["device_round_1"]["k0"], run["device_round_1"]["k1"], run["server_round_2"]["k_Delta"])
    )
    assert delta & 1 and chosen == [(zeros, ones)[delta >> i & 1][i] for i in range(128)]
    assert run["server_round_1"]["choices"] == [delta >> i & 1 for i in range(128)]

    device = extension["device"]
    choices = int.from_bytes(raw(device["u and tail"]), "little")
    v, w = words(device["V, rows"]), words(extension["server"]["W, rows"])
    assert w == [row ^ (choices >> j & 1) * delta for j, row in enumerate(v)]
    permute = Cipher(algorithms.AES128(raw(device["prg_key"])), modes.ECB()).encryptor().update
    first = permute(raw(device["k0"])[:16])
    assert bytes(a ^ b for a, b in zip(first, raw(device["k0"])[:16], strict=True)).hex() == device["G(k0)"][:32]
    assert checks(device["R"], w, device["x"], device["Y"], delta)


def checks(r: str, w: list[int], x: str, y: str, delta: int) -> bool:
    """R·W ⊕ W_tail = Y ⊕ x⊗Δ."""
    for row, (claimed, tail) in enumerate(zip(words(y), w[128:], strict=True)):
        picked = int.from_bytes(raw(r)[16 * row : 16 * row + 16], "little")
        total = tail
        for j in range(128):
            total ^= w[j] * (picked >> j & 1)
        if total != claimed ^ (int.from_bytes(raw(x), "little") >> row & 1) * delta:
            return False
    return True


def test_whoever_cheats_in_the_extension_passes_only_by_a_guess() -> None:
    cases = vector("ot-extension")["cheating"]

    assert [(case["Delta there"], case["check"]) for case in cases] == [(1, False), (0, True)]


def test_small_circuits_are_garbled_as_the_formulas_say() -> None:
    for case in vector("garbling")["small"]:
        circuit, delta, sid = case["circuit"], words(case["Delta"])[0], raw(case["draws"][0]["value"])
        zero_labels, tables = words(case["zero_labels"]), words(case["tables"])
        reject, accept = words(case["reject_label"])[0], words(case["accept_label"])[0]
        assert reject ^ accept == delta
        for run in case["evaluations"]:
            bits = [int(bit) for bit in run["bits"]]
            active = words(run["active_labels"])
            assert active == [label ^ bit * delta for label, bit in zip(zero_labels, bits, strict=True)]
            assert in_the_clear(circuit, bits) == run["accepted"]
            assert (
                evaluated(circuit, sid, tables, active) == words(run["label"])[0] == (reject, accept)[run["accepted"]]
            )
    accepted = {run["accepted"] for case in vector("garbling")["small"] for run in case["evaluations"]}
    assert accepted == {0, 1}


def in_the_clear(circuit: dict[str, Any], bits: list[int]) -> int:
    wires = [0, 1, *bits]
    for step in circuit["steps"]:
        pairs = [(wires[a], wires[b]) for a, b in zip(step["left"], step["right"], strict=True)]
        wires += [a & b if step["kind"] == "AND" else a ^ b for a, b in pairs]
    return wires[circuit["output"]]


def evaluated(circuit: dict[str, Any], sid: bytes, tables: list[int], active: list[int]) -> int:
    permute = Cipher(algorithms.AES128(h("tandem garble v1", sid)[:16]), modes.ECB()).encryptor().update
    labels, at = [0, 0, *active], 0

    def hashed(label: int, i: int) -> int:
        sigma = ((label ^ label >> 64) & (2**64 - 1)) | (label & (2**64 - 1)) << 64
        return int.from_bytes(permute((sigma ^ i << 64).to_bytes(16, "little")), "little") ^ sigma

    for step in circuit["steps"]:
        pairs = [(labels[a], labels[b]) for a, b in zip(step["left"], step["right"], strict=True)]
        if step["kind"] == "XOR":
            labels += [a ^ b for a, b in pairs]
            continue
        for gate, (a, b) in enumerate(pairs):
            i, j = at + gate, at + len(pairs) + gate
            labels.append(hashed(a, i) ^ (a & 1) * tables[i] ^ hashed(b, j) ^ (b & 1) * (tables[j] ^ a))
        at += 2 * len(pairs)
    return labels[circuit["output"]]


# --- logins -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("topic", ["login-rs256", "login-ps256", "login-no-match"])
def test_both_sides_of_a_login_fit_together(topic: str) -> None:
    """The device's labels are of a pair of the server's; both exchange one secret; the box opens with it."""
    content = vector(topic)
    delta = words(content["base_ot"]["server"]["Delta"])[0]
    login = content["logins"][0]
    device, server, end = login["device_round_1"], login["server"], login["device_round_2"]
    zero_labels, active = words(server["zero_labels"]), words(end["active_labels"])
    distance = sum(zero != label for zero, label in zip(zero_labels, active, strict=True))
    assert {zero ^ label for zero, label in zip(zero_labels, active, strict=True)} <= {0, delta}
    assert distance == {"login-rs256": 163, "login-ps256": 42, "login-no-match": 164}[topic]

    sent = cbor.decode(raw(server["message_2"]["hex"]))
    private = X25519PrivateKey.from_private_bytes(raw(device["draws"][0]["value"]))
    shared = private.exchange(X25519PublicKey.from_public_bytes(sent["ephemeral"]))
    assert shared.hex() == server["X25519"]
    key = HKDF(SHA256(), 32, salt=raw(server["sid"]), info=b"tandem seal v1").derive(
        raw(server["accept_label"]) + shared
    )
    opened = AESGCM(key).decrypt(bytes(12), sent["sealed"], raw(server["sid"]))
    assert opened.hex() == server["sealed plaintext, s2 and rho"]
    assert end["label"] == server["reject_label" if distance > 163 else "accept_label"]


def test_relying_parties_accept_what_comes_out() -> None:
    """The passkey of login-rs256 and both its logins, by py_webauthn; the PS256 signature with a salt of 32 bytes."""
    content = vector("login-rs256")
    site = {"expected_rp_id": "shop.example", "expected_origin": "https://shop.example"}
    made = content["logins"][0]["webauthn"]
    for form in ("none", "packed"):
        passkey = webauthn.verify_registration_response(
            credential=made[form], expected_challenge=bytes([1] * 32), require_user_verification=True, **site
        )
        assert passkey.fmt == form
    count = passkey.sign_count
    for challenge, login in zip((2, 3), content["logins"][1:], strict=True):
        count = webauthn.verify_authentication_response(
            credential=login["webauthn"],
            expected_challenge=bytes([challenge] * 32),
            credential_public_key=passkey.credential_public_key,
            credential_current_sign_count=count,
            require_user_verification=True,
            **site,
        ).new_sign_count
    assert count == 3

    salted = vector("login-ps256")
    answer = salted["logins"][0]["webauthn"]["response"]
    data, client, signature = (padded(answer[name]) for name in ("authenticatorData", "clientDataJSON", "signature"))
    rsa.RSAPublicNumbers(65537, number(salted["key"]["N"])).public_key().verify(
        signature,
        data + hashlib.sha256(client).digest(),
        padding.PSS(padding.MGF1(SHA256()), salt_length=32),
        SHA256(),
    )


def padded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def test_authenticator_data_as_fido2_reads_it() -> None:
    values = vector("webauthn")["authenticator_data"]
    created = AuthenticatorData(raw(values["create, counter 1"]))
    signed = AuthenticatorData(raw(values["get, counter 65,538"]))

    assert created.rp_id_hash == signed.rp_id_hash == hashlib.sha256(b"shop.example").digest()
    assert created.flags == AuthenticatorData.FLAG(0x45) and created.counter == 1 and created.credential_data
    assert cbor.encode(created.credential_data.public_key).hex() == values["cose RS256"]
    assert signed.flags == AuthenticatorData.FLAG(0x05) and signed.counter == 65_538 and len(signed) == 37


# --- around the protocol ----------------------------------------------------------------------------------------


class Received:
    """A request for the verifying library."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self.method, self.url, self.headers = "POST", url, headers


def test_request_signatures_by_the_library_and_by_hand() -> None:
    content = vector("request-signature")
    request = content["request"]
    key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), raw(content["key"]["public point"]))
    resolver = MappingKeyResolver(public_keys={content["key"]["keyid"]: key}, private_keys={})
    verifier = HTTPMessageVerifier(signature_algorithm=ECDSA_P256_SHA256, key_resolver=resolver)
    signature = base64.b64decode(request["headers"]["Signature"].removeprefix("tandem=:").removesuffix(":"))
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    url = f"https://{request['authority']}{request['path']}"

    key.verify(encode_dss_signature(r, s), request["signature base"].encode(), ec.ECDSA(SHA256()))
    (result,) = verifier.verify(
        Received(url, request["headers"]),
        max_age=datetime.timedelta(days=36_500),
        expect_tag="tandem-v1",
        expect_label="tandem",
        body=raw(request["body"]),
    )
    assert result.parameters["keyid"] == content["key"]["keyid"]
    digest = base64.b64encode(hashlib.sha256(raw(request["body"])).digest()).decode()
    assert request["headers"]["Content-Digest"] == f"sha-256=:{digest}:"
    assert len(content["accepted"]) == 4 and len(content["refused"]) == 11


def test_the_sealed_half_opens_and_its_recipient_file_is_signed() -> None:
    content = vector("provisioned-keys")
    private, document = raw(content["draws"][0]["value"]), json.loads(content["recipient"]["file"])
    file = raw(content["sealed_share"]["file"])
    length = int.from_bytes(file[5:7], "big")
    header, sealed = file[7 : 7 + length], file[11 + length :]

    secret = x25519_decapsulated(sealed[:32], private)
    package = key_schedule(secret, framing("tandem sealed share v1", header), X25519_KEM).open(sealed[32:])
    assert package.hex() == content["share_package"]["hex"]
    signature = padded(document.pop("signature"))
    signed = framing("tandem signed document v1", rfc8785.dumps(document))
    Ed25519PublicKey.from_public_bytes(padded(document["signing_key"])).verify(signature, signed)
    assert hashlib.sha256(signed).hexdigest() == content["recipient"]["id"]


def test_projections_in_plain_integers() -> None:
    content = vector("sign-projection")
    small = content["small"]
    constants, matrix = small["constants"], small["R, row by row"]
    for case in small["encodings"]:
        x = struct.unpack(">6d", raw(case["x, binary64"]))
        assert list(x) == case["x"]
        _, exponent = math.frexp(max(map(abs, x)))
        q = [round(math.ldexp(value, 24 - exponent)) for value in x]
        length = math.isqrt(sum(value * value for value in q))
        u = [(2**21 * value + length) // (2 * length) for value in q]
        centred = [value - mean for value, mean in zip(u, constants["mean"], strict=True)]
        y = [sum(a * b for a, b in zip(row, centred, strict=True)) for row in constants["whitening"]]
        code = sum((sum(a * b for a, b in zip(row, y, strict=True)) >= 0) << bit for bit, row in enumerate(matrix))
        assert (q, u, y) == (case["q"], case["u"], case["y"])
        assert code.to_bytes(8, "little").hex() == case["code"]
    stream = hashlib.shake_256(b"tandem sign-projection v1tandem vectors" + struct.pack("<II", 6, 64)).digest(
        4 * 6 * 64
    )
    entries = [int.from_bytes(stream[at : at + 4], "big").bit_count() - 16 for at in range(0, len(stream), 4)]
    assert [entry for row in matrix for entry in row] == entries
    assert content["face-2048"]["encoder_id"] == "dlib-face-v1/a5ff97a3ca988bfb"


def test_the_history_is_a_chain_of_hashes() -> None:
    content = vector("history")
    last = bytes(32)
    for event in content["events"]:
        where = struct.pack(">Q", event["n"]), struct.pack(">d", event["time"]), raw(content["enrolment_id"])
        last = h("tandem audit event v1", last, *where, event["name"].encode(), event["detail"].encode())
        assert last.hex() == event["h(n)"]


def test_vault_files_open_with_keys_from_their_header() -> None:
    content = vector("vault")
    payload = raw(content["payload"]["hex"])
    materials = {
        "key_file": raw(content["key_file"]["key material"]),
        "passphrase": hashlib.scrypt(
            content["passphrase"]["passphrase"].encode(),
            salt=raw(content["passphrase"]["header"])[13:45],
            n=2**15,
            r=8,
            p=1,
            maxmem=2**26,
            dklen=32,
        ),
    }
    for name, material in materials.items():
        header = raw(content[name]["header"])
        key = HKDF(SHA256(), 32, salt=header[13:45], info=b"tandem vault v1 encryption").derive(material)
        sealed = AESGCM(key).encrypt(header[65:77], payload, header)
        assert header[:9] == b"TANDEMVT\x01" and int.from_bytes(header[61:65], "big") == len(sealed)
        assert zlib.crc32(header[:77]) == int.from_bytes(header[77:], "big")
        assert hashlib.sha256(sealed).hexdigest() == content[name]["ciphertext"]["sha256"]

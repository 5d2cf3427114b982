#!/usr/bin/env python3
"""The device's half of the protocol in plain Python, from docs/protocol.md alone: what a port to a phone looks like.

    python docs/examples/plain_device.py docs/vectors

reads the vectors, makes base-OT keys and messages again from the draws in them, opens the answers, and compares. It
imports nothing of Tandem. Slow, not constant-time, without storage, transport and the checks of a real device: for
reading beside the page, and for stepping through when a port gives other values. Unmasked profiles only.
"""

import hashlib
import hmac
import json
import sys
from pathlib import Path

import cbor2
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from nacl import bindings as sodium

KAPPA = 128
LOW_64 = 2**64 - 1


# --- section 3: hashing and encodings ---------------------------------------------------------------------------


def framed(label, *parts):
    return bytes([len(label)]) + label.encode() + b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def h(label, *parts):
    return hashlib.sha256(framed(label, *parts)).digest()


def xof(label, length, *parts):
    return hashlib.shake_256(framed(label, *parts)).digest(length)


def cbor(value):
    """Canonical CBOR: shortest heads, keys by length and then bytewise."""

    def head(major, number):
        if number < 24:
            return bytes([major << 5 | number])
        size = 1 if number < 2**8 else 2 if number < 2**16 else 4 if number < 2**32 else 8
        return bytes([major << 5 | {1: 24, 2: 25, 4: 26, 8: 27}[size]]) + number.to_bytes(size, "big")

    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value.encode())) + value.encode()
    if isinstance(value, list):
        return head(4, len(value)) + b"".join(map(cbor, value))
    entries = sorted((cbor(key), cbor(entry)) for key, entry in value.items())
    return head(5, len(entries)) + b"".join(key + entry for key, entry in entries)


def share_number(data):
    """Version 1, sign, magnitude."""
    assert data[0] == 1 and data[1] in (0, 1)
    return (-1 if data[1] else 1) * int.from_bytes(data[2:], "big")


def share_bytes(value, width):
    return bytes([1, value < 0]) + abs(value).to_bytes(width - 2, "big")


def aes(key):
    """One block through AES-128."""
    return Cipher(algorithms.AES128(key), modes.ECB()).encryptor().update  # noqa: S305 - single blocks


def ctr(key, length):
    return Cipher(algorithms.AES128(key), modes.CTR(bytes(16))).encryptor().update(bytes(length))


def little(data):
    return int.from_bytes(data, "little")


def xor(left, right):
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


# --- section 5: base OT -----------------------------------------------------------------------------------------


def base_ot(enrolment_id, base_ot_id, received, draws):
    """(k0, k1, message): both keys of 128 instances, 16 bytes each."""
    keys, sent = ([], []), []
    for i in range(KAPPA):
        pair = [received[64 * i : 64 * i + 32], received[64 * i + 32 : 64 * i + 64]]
        scalar = sodium.crypto_core_ed25519_scalar_reduce(draws[i])
        public = sodium.crypto_scalarmult_ed25519_base_noclamp(scalar)
        for x in (0, 1):
            where = i.to_bytes(2, "big") + bytes([x])
            framing = framed("tandem base-ot hash v1", enrolment_id, base_ot_id, where, pair[1 - x])
            halves = hashlib.sha512(framing).digest()
            hashed = sodium.crypto_core_ed25519_add(
                sodium.crypto_core_ed25519_from_uniform(halves[:32]),
                sodium.crypto_core_ed25519_from_uniform(halves[32:]),
            )
            point = sodium.crypto_core_ed25519_add(pair[x], hashed)
            assert sodium.crypto_core_ed25519_is_valid_point(pair[x]), "invalid_point"
            assert sodium.crypto_core_ed25519_is_valid_point(point), "invalid_point"
            shared = sodium.crypto_scalarmult_ed25519_noclamp(scalar, point)
            parts = (enrolment_id, base_ot_id, where, *pair, public, shared)
            keys[x].append(h("tandem base-ot key v1", *parts)[:16])
        sent.append(public)
    return b"".join(keys[0]), b"".join(keys[1]), b"".join(sent)


# --- section 7: the circuit -------------------------------------------------------------------------------------


class Circuit:
    """Gates in the order of writing; `laid_out` numbers them as they are garbled."""

    def __init__(self, inputs):
        self.inputs = inputs
        self.gates = []
        self.places = [(0, 0)] * (2 + inputs)

    def gate(self, kind, left, right):
        (left_ands, left_xors), (right_ands, right_xors) = self.places[left], self.places[right]
        ands = max(left_ands, right_ands)
        xors = 1 + max(left_xors * (left_ands == ands), right_xors * (right_ands == ands))
        self.gates.append((kind, left, right))
        self.places.append((ands + 1, 0) if kind == "AND" else (ands, xors))
        return len(self.places) - 1

    def count_exceeds(self, bits, limit):
        top = (len(bits) - 1).bit_length()
        added, carried = 2**top - 1 - limit, []
        for weight in range(top + 1):
            last = weight == top
            level = (list(bits) if weight == 0 else []) + ([] if last else [added >> weight & 1]) + carried
            carried = []
            while len(level) > 2:
                sums = []
                for x, y, z in zip(level[0::3], level[1::3], level[2::3], strict=False):
                    xz = self.gate("XOR", x, z)
                    sums.append(self.gate("XOR", xz, y))
                    if not last:
                        yz = self.gate("XOR", y, z)
                        carried.append(self.gate("XOR", self.gate("AND", xz, yz), z))
                level = sums + level[len(level) - len(level) % 3 :]
            if len(level) == 2:
                if not last:
                    carried.append(self.gate("AND", *level))
                level = [self.gate("XOR", *level)]
        return level[0]

    def laid_out(self, output):
        """(steps, output wire): a step is its kind and the operands of its gates."""
        first, order = 2 + self.inputs, {}
        for number, (kind, _, _) in enumerate(self.gates):
            ands, xors = self.places[first + number]
            order.setdefault((ands, kind != "AND", xors), []).append(number)
        in_order = [number for place in sorted(order) for number in order[place]]
        wire = {**{w: w for w in range(first)}, **{first + n: first + at for at, n in enumerate(in_order)}}
        steps = [
            (self.gates[numbers[0]][0], [[wire[side] for side in self.gates[n][1:]] for n in numbers])
            for _, numbers in sorted(order.items())
        ]
        return steps, wire[output]


def matcher(bits, templates, threshold):
    circuit = Circuit(bits * templates)
    rejects = [circuit.count_exceeds(range(2 + bits * k, 2 + bits * (k + 1)), threshold) for k in range(templates)]
    while len(rejects) > 1:
        odd = rejects[-1:] if len(rejects) % 2 else []
        rejects = [circuit.gate("AND", a, b) for a, b in zip(rejects[::2], rejects[1::2], strict=False)] + odd
    return circuit.inputs, *circuit.laid_out(circuit.gate("XOR", rejects[0], 1))


def profile_digest(profile, inputs, steps, output):
    """Section 2."""
    parts = [inputs.to_bytes(4, "big"), output.to_bytes(4, "big")]
    for kind, pairs in steps:
        parts.append(b"\1" if kind == "AND" else b"\0")
        parts += [b"".join(pair[side].to_bytes(4, "big") for pair in pairs) for side in (0, 1)]
    return h("tandem profile v1", cbor(profile), h("tandem circuit v1", *parts))


# --- section 6: message 1 ---------------------------------------------------------------------------------------


def encoded(algorithm, message, salt, bits):
    """EM as a number: RFC 8017, sections 9.2 and 9.1.1."""
    digest, length = hashlib.sha256(message).digest(), (bits + 7) // 8
    if algorithm == "RS256":
        info = bytes.fromhex("3031300d060960864801650304020105000420") + digest
        return int.from_bytes(b"\0\1" + b"\xff" * (length - len(info) - 3) + b"\0" + info, "big")
    hashed = hashlib.sha256(bytes(8) + digest + salt).digest()
    block = bytes(length - 66) + b"\1" + salt
    mask = b"".join(hashlib.sha256(hashed + i.to_bytes(4, "big")).digest() for i in range(-(-len(block) // 32)))
    masked = xor(block, mask[: len(block)])
    return int.from_bytes(bytes([masked[0] & 0x7F]) + masked[1:] + hashed + b"\xbc", "big")


def expand(prg_key, seed, blocks):
    """G(k): π(k ⊕ c) ⊕ k ⊕ c, with c in the high half."""
    permute = aes(prg_key)
    inputs = [(little(seed) ^ c << 64).to_bytes(16, "little") for c in range(blocks)]
    return little(b"".join(xor(permute(block), block) for block in inputs))


def message_1(state, asked, draws):
    """(body, what finish needs). draws: X25519 key, salt for PS256, nonce, tail."""
    profile, n = state["profile"], state["N"]
    size, bits = (n.bit_length() + 7) // 8, state["circuit"][0]
    ephemeral = X25519PrivateKey.from_private_bytes(draws[0])
    salt = draws[1] if state["algorithm"] == "PS256" else None
    nonce, tail = draws[-2:]
    statement = {
        "v": 1,
        "suite": 1,
        "enrolment_id": state["enrolment_id"],
        "base_ot_id": state["base_ot_id"],
        "profile_digest": state["profile digest"],
        "kind": asked["kind"],
        "credential_id": state["credential_id"],
        "epoch": state["epoch"],
        "ot_index": asked["ot_index"],
        "authenticator_data": asked["authenticator_data"],
        "client_data_hash": asked["client_data_hash"],
        "device_nonce": nonce,
        "ephemeral": ephemeral.public_key().public_bytes_raw(),
        **({"pss_salt": salt} if salt else {}),
        **({"confirm": asked["confirm"]} if asked["confirm"] else {}),
    }
    t1_digest = h("tandem statement v1", cbor(statement))
    em = encoded(state["algorithm"], asked["authenticator_data"] + asked["client_data_hash"], salt, n.bit_length())
    s1 = pow(pow(em, -1, n), -state["d1"], n)
    y_tag = h("tandem share v1", t1_digest, pow(s1, 65537, n).to_bytes(size, "big"))

    assert len(asked["probe"]) * 8 == profile["code_bits"] * profile["templates"]
    choices = little(xor(state["t1"], asked["probe"]) + tail)
    index = asked["ot_index"].to_bytes(8, "big")
    prg_key = h("tandem ot-prg v1", state["base_ot_id"], index, nonce)[:16]
    width = (bits + KAPPA) // 8
    columns, u = [], b""
    for i in range(KAPPA):
        zero, one = (expand(prg_key, state[name][16 * i : 16 * i + 16], width // 16) for name in ("k0", "k1"))
        columns.append(zero)
        u += (zero ^ one ^ choices).to_bytes(width, "little")
    rows = [sum((column >> j & 1) << i for i, column in enumerate(columns)) for j in range(bits + KAPPA)]

    parts = (t1_digest, state["profile digest"], h("tandem u v1", u))
    r = ctr(h("tandem ot-check v1", *parts)[:16], KAPPA * bits // 8)
    x, y = 0, b""
    for i in range(KAPPA):
        row = little(r[i * bits // 8 : (i + 1) * bits // 8])
        x |= ((row & choices).bit_count() + (choices >> bits + i) & 1) << i
        total = rows[bits + i]
        for j in range(bits):
            if row >> j & 1:
                total ^= rows[j]
        y += total.to_bytes(16, "little")
    body = cbor({**statement, "y_tag": y_tag, "u": u, "x": x.to_bytes(16, "little"), "y": y})
    return body, {"ephemeral": ephemeral, "em": em, "s1": s1, "rows": rows[:bits]}


# --- sections 7 and 8: message 2 and refresh --------------------------------------------------------------------


def evaluate(circuit, sid, tables, active):
    _, steps, output = circuit
    permute = aes(h("tandem garble v1", sid)[:16])
    rows = [little(tables[at : at + 16]) for at in range(0, len(tables), 16)]
    labels, index = [0, 0, *active], 0

    def gate_hash(label, i):
        low, high = label & LOW_64, label >> 64
        mixed = (low ^ high) | low << 64
        return little(permute((mixed ^ i << 64).to_bytes(16, "little"))) ^ mixed

    for kind, pairs in steps:
        if kind == "XOR":
            labels += [labels[a] ^ labels[b] for a, b in pairs]
            continue
        count = len(pairs)
        for gate, (a, b) in enumerate((labels[a], labels[b]) for a, b in pairs):
            left, right = index + gate, index + count + gate
            generated = gate_hash(a, left) ^ (a & 1) * rows[left]
            labels.append(generated ^ gate_hash(b, right) ^ (b & 1) * (rows[right] ^ a))
        index += 2 * count
    return labels[output].to_bytes(16, "little")


def finish(state, kept, body_1, answer):
    """None for no match; otherwise the signature and what must be durable before it is released."""
    n, e = state["N"], 65537
    size = (n.bit_length() + 7) // 8
    parts = (state["profile digest"], hashlib.sha256(n.to_bytes(size, "big")).digest())
    nonce, public = answer["server_nonce"], answer["ephemeral"]
    server = state["server_id"].encode()
    sid = h("tandem sid v1", hashlib.sha256(body_1).digest(), server, *parts, nonce, public)
    white = ctr(h("tandem white v1", sid)[:16], 16 * len(kept["rows"]))
    active = [row ^ little(white[16 * j : 16 * j + 16]) for j, row in enumerate(kept["rows"])]
    label = evaluate(state["circuit"], sid, answer["tables"], active)
    if hmac.compare_digest(h("tandem out v1", b"\0", sid, label)[:16], answer["tag0"]):
        return None
    assert hmac.compare_digest(h("tandem out v1", b"\1", sid, label)[:16], answer["tag1"]), "output_label"

    material = label + kept["ephemeral"].exchange(X25519PublicKey.from_public_bytes(public))
    key, token = (
        HKDF(SHA256(), 32, salt=sid, info=info).derive(material) for info in (b"tandem seal v1", b"tandem confirm v1")
    )
    opened = AESGCM(key).decrypt(bytes(12), answer["sealed"], sid)
    s2, rho = int.from_bytes(opened[:-32], "big"), opened[-32:]
    signature = kept["s1"] * s2 % n
    assert pow(signature, e, n) == kept["em"], "bad_partial_signature"

    share_bits = n.bit_length() + 128
    stream = xof("tandem refresh v1", (share_bits + 7) // 8, sid, rho, b"key", state["credential_id"])
    r_d = int.from_bytes(stream, "big") >> -share_bits % 8
    r_t = xof("tandem refresh v1", len(state["t1"]), sid, rho, b"template", state["enrolment_id"])
    return {
        "signature": signature.to_bytes(size, "big"),
        "d1": state["d1"] - r_d,
        "t1": xor(state["t1"], r_t),
        "token": token,
    }


# --- against the vectors ----------------------------------------------------------------------------------------


def replay_base_ot(folder):
    vector = json.loads((folder / "base-ot.json").read_text("utf-8"))
    ids = [bytes.fromhex(vector["parameters"][name]) for name in ("enrolment_id", "base_ot_id")]
    device = vector["device_round_1"]
    draws = [bytes.fromhex(draw["value"]) for draw in device["draws"]]
    made = base_ot(*ids, bytes.fromhex(vector["server_round_1"]["receiver_message"]), draws)
    assert [part.hex() for part in made] == [device[name] for name in ("k0", "k1", "sender_message")]
    return "base-ot: 128 instances"


def replay_logins(path, vector):
    """The logins of a file, each from the state that the one before it left."""
    parameters, key = vector["parameters"], vector["key"]
    n = int(key["N"], 16)
    state = {name: bytes.fromhex(parameters[name]) for name in ("enrolment_id", "base_ot_id", "credential_id")}
    state |= {name: parameters[name] for name in ("server_id", "algorithm", "profile")}
    state |= {"profile digest": bytes.fromhex(parameters["profile digest"]), "N": n, "epoch": 0}
    keys = json.loads((path.parent / "base-ot.json").read_text("utf-8"))["device_round_1"]
    state |= {"k0": bytes.fromhex(keys["k0"]), "k1": bytes.fromhex(keys["k1"])}
    profile, before = state["profile"], vector["state"]["device"]
    state["circuit"] = matcher(profile["code_bits"], profile["templates"], profile["threshold"])
    assert profile_digest(profile, *state["circuit"]) == state["profile digest"]
    state |= {"d1": share_number(bytes.fromhex(before["d1"])), "t1": bytes.fromhex(before["t1"])}
    confirm = None
    for login in vector["logins"]:
        said, first = login["asked"], login["device_round_1"]
        asked = {
            "kind": said["kind"],
            "ot_index": said["ot_index, stored before"],
            "authenticator_data": bytes.fromhex(said["authenticator_data"]),
            "client_data_hash": bytes.fromhex(said["client_data_hash"]),
            "probe": bytes.fromhex(said["b, a code for each template"]),
            "confirm": confirm if said["confirm"] else None,
        }
        body, kept = message_1(state, asked, [bytes.fromhex(draw["value"]) for draw in first["draws"]])
        same(body, first["message_1"])
        message_2 = login["server"]["message_2"]
        if "hex" not in message_2:
            return f"{path.stem}: message 1 of {said['kind']} {asked['ot_index']}"
        result = finish(state, kept, body, fields(bytes.fromhex(message_2["hex"])))
        second = login["device_round_2"]
        if result is None:
            assert second["matches"] == "tag0"
            return f"{path.stem}: no match"
        width = len(bytes.fromhex(before["d1"]))
        assert result["signature"].hex() == second["signature"]
        assert share_bytes(result["d1"], width).hex() == second["next"]["d1"]
        assert result["t1"].hex() == second["next"]["t1"]
        confirm = {"ot_index": asked["ot_index"], "token": result["token"]}
        if "message_3" in login:
            third = cbor({"v": 1, "enrolment_id": state["enrolment_id"], "confirm": confirm})
            same(third, login["message_3"])
        state |= {"d1": result["d1"], "t1": result["t1"], "epoch": state["epoch"] + 1}
    return f"{path.stem}: {len(vector['logins'])} logins"


def same(made, written):
    assert len(made) == written["bytes"]
    assert made.hex() == written["hex"] if "hex" in written else hashlib.sha256(made).hexdigest() == written["sha256"]


def fields(body):
    """A map of numbers and byte strings. A real device refuses whatever is not canonical."""
    return cbor2.loads(body)


def main(folder):
    yield replay_base_ot(folder)
    for name in ("login-rs256", "login-ps256", "login-no-match"):
        path = folder / f"{name}.json"
        yield replay_logins(path, json.loads(path.read_text("utf-8")))
    path = folder / "login-real-sizes.json"
    for login in json.loads(path.read_text("utf-8"))["logins"]:
        if not login["parameters"]["profile"]["masked"]:
            yield replay_logins(path, {**login, "logins": [login]})


if __name__ == "__main__":
    for line in main(Path(sys.argv[1])):
        print(line)

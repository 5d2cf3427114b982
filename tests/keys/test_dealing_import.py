"""`tandem-keys import`: keys from elsewhere, in every usual file, and the ones that are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from dealers_room import PASSPHRASE, Room, manifest_of, refused, remains_of, succeeds

from mpc.provisioning.manifest import CeremonyKind
from mpc.threshold_rsa.encodings import Algorithm, encode_message
from mpc.threshold_rsa.signing import combine, partial_signature

_SECRET = BestAvailableEncryption(PASSPHRASE.encode())
_MODULUS_BITS = 2048


def new_key(e: int = 65537, bits: int = _MODULUS_BITS) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537 if e == 65537 else 3, key_size=bits)


def pem(key: rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def as_file(key: rsa.RSAPrivateKey, form: str) -> bytes:
    if form == "p12":
        return pkcs12.serialize_key_and_certificates(b"old", key, None, None, _SECRET)
    encoding = Encoding.DER if form.endswith(".der") else Encoding.PEM
    style = PrivateFormat.TraditionalOpenSSL if form.startswith("pkcs1") else PrivateFormat.PKCS8
    return key.private_bytes(encoding, style, _SECRET if "encrypted" in form else NoEncryption())


def signs_as(room: Room, folder: Path, index: int, source: rsa.RSAPrivateKey) -> None:
    """The halves together sign what the imported key's own public half accepts."""
    dealt = manifest_of(folder).keys[index]
    holders = {who.recipient.id: who for who in (room.server, *room.devices)}
    halves = [holders[dealt.device].opens(folder, dealt), holders[dealt.server].opens(folder, dealt)]
    encoded = encode_message(Algorithm.RS256, b"a login", None, dealt.key.bits)
    signature = combine(dealt.key, encoded, *(partial_signature(half.share, encoded) for half in halves))
    source.public_key().verify(signature, b"a login", PKCS1v15(), SHA256())


@pytest.mark.parametrize(
    "form",
    ["pkcs1", "pkcs1 encrypted", "pkcs8", "pkcs8 encrypted", "pkcs1.der", "pkcs8.der", "pkcs8 encrypted.der", "p12"],
)
def test_a_key_from_any_usual_file_signs_in_two_halves(tmp_path: Path, form: str) -> None:
    """Teams bring what their HSM exports and CAs gave them; the relying party's public key stays the same."""
    room, key = Room.furnish(tmp_path), new_key()
    source = tmp_path / "old.key"
    source.write_bytes(as_file(key, form))

    result = succeeds(
        "import",
        str(source),
        *room.options(device=room.devices[0].file),
        "--passphrase-file",
        str(room.passphrase_file()),
    )

    assert manifest_of(room.out).kind is CeremonyKind.IMPORT
    signs_as(room, room.out, 0, key)
    assert "destroy the sources" in result.stderr and str(source) in result.stderr
    succeeds("verify", str(room.out))


def test_with_a_folder_of_devices_each_key_goes_to_the_device_of_its_name(tmp_path: Path) -> None:
    """Nobody should have to keep a table of keys and people."""
    room = Room.furnish(tmp_path, devices=("alice", "bob"))
    keys = {"bob": new_key(), "alice": new_key()}
    files = []
    for name, key in keys.items():
        files.append(tmp_path / f"{name}.pem")
        files[-1].write_bytes(pem(key))

    succeeds("import", *map(str, files), *room.options())

    dealt = manifest_of(room.out).keys
    assert [entry.device for entry in dealt] == [room.devices[1].recipient.id, room.devices[0].recipient.id]
    for index, key in enumerate(keys.values()):
        signs_as(room, room.out, index, key)


def test_exchanged_names_of_device_files_give_nobody_anothers_key(tmp_path: Path) -> None:
    """Whoever carries the files can rename them, and the name says which key goes where."""
    room = Room.furnish(tmp_path, devices=("alice", "bob"))
    files = []
    for name in ("alice", "bob"):
        files.append(str(tmp_path / f"{name}.pem"))
        Path(files[-1]).write_bytes(pem(new_key()))
    by_name, by_set = room.expected(by_name=True), room.expected()
    alice, bob = (who.file for who in room.devices)
    spare = alice.rename(tmp_path / "spare")
    bob.rename(alice)
    spare.rename(bob)

    assert refused("import", *files, *room.asking(), *by_name)[0] == "unexpected_recipient"
    reason, sentence = refused("import", *files, *room.asking(), *by_set)
    assert reason == "unnamed_expectation" and "--expect" in sentence
    assert refused("import", *files, *room.asking())[0] == "not_compared"
    assert not remains_of(room.out)


def test_with_a_folder_of_devices_fingerprints_are_expected_by_name(tmp_path: Path) -> None:
    """The server has one place only, so its fingerprint needs no name; a single device neither."""
    room = Room.furnish(tmp_path, devices=("alice", "bob"))
    files = []
    for name in ("alice", "bob"):
        files.append(str(tmp_path / f"{name}.pem"))
        Path(files[-1]).write_bytes(pem(new_key()))

    succeeds("import", *files, *room.asking(), *room.expected(by_name=True))
    one = room.asking(tmp_path / "one", device=room.devices[0].file)
    succeeds("import", files[0], *one, *room.expected()[:4])

    dealt = manifest_of(room.out)
    assert [entry.device for entry in dealt.keys] == [who.recipient.id for who in room.devices]
    assert dealt.parameters["recipients compared"] == "with given fingerprints"


def test_a_source_whose_name_would_steer_the_terminal_is_shown_harmlessly(tmp_path: Path) -> None:
    """The last lines say what to destroy; a name with an escape sequence in it could rewrite them."""
    room = Room.furnish(tmp_path)
    source = tmp_path / "old\x1b[2J.pem"
    source.write_bytes(pem(new_key()))

    result = succeeds("import", str(source), *room.options(device=room.devices[0].file))

    assert "old?[2J.pem" in result.stderr and "\x1b" not in result.output


def test_keys_and_devices_that_do_not_match_by_name_are_refused(tmp_path: Path) -> None:
    """A key for nobody and a device without a key are both mistakes of the collection."""
    room = Room.furnish(tmp_path, devices=("alice", "bob"))
    for name in ("alice", "carol"):
        (tmp_path / f"{name}.pem").write_bytes(pem(new_key()))

    assert refused("import", str(tmp_path / "alice.pem"), *room.options())[0] == "no_key"
    reason, sentence = refused("import", str(tmp_path / "carol.pem"), *room.options())
    assert reason == "no_device" and "carol.json" in sentence
    assert not remains_of(room.out)


def test_one_device_may_get_several_keys(tmp_path: Path) -> None:
    """A person can have several passkeys at one relying party."""
    room, keys = Room.furnish(tmp_path), [new_key(), new_key()]
    for index, key in enumerate(keys):
        (tmp_path / f"{index}.pem").write_bytes(pem(key))

    files = [str(tmp_path / f"{index}.pem") for index in range(2)]
    succeeds("import", *files, *room.options(device=room.devices[0].file))

    for index, key in enumerate(keys):
        signs_as(room, room.out, index, key)


def test_the_same_key_in_two_files_is_refused(tmp_path: Path) -> None:
    """Dealt twice, its two server halves would belong to two enrolments."""
    room, key = Room.furnish(tmp_path), new_key()
    (tmp_path / "a.pem").write_bytes(as_file(key, "pkcs8"))
    (tmp_path / "b.der").write_bytes(as_file(key, "pkcs1.der"))

    one_device = room.options(device=room.devices[0].file)
    assert refused("import", str(tmp_path / "a.pem"), str(tmp_path / "b.der"), *one_device)[0] == "same_key"
    assert not remains_of(room.out)


def test_keys_of_a_batch_that_share_a_prime_are_refused(tmp_path: Path) -> None:
    """Anybody who sees both public keys computes both private ones."""
    room = Room.furnish(tmp_path)
    one, two = (new_key().private_numbers() for _ in range(2))
    files = []
    for name, (p, q) in {"a": (one.p, one.q), "b": (one.p, two.q)}.items():
        d = rsa.rsa_recover_private_exponent(65537, p, q)
        numbers = rsa.RSAPrivateNumbers(
            p,
            q,
            d,
            rsa.rsa_crt_dmp1(d, p),
            rsa.rsa_crt_dmq1(d, q),
            rsa.rsa_crt_iqmp(p, q),
            rsa.RSAPublicNumbers(65537, p * q),
        )
        files.append(tmp_path / f"{name}.pem")
        files[-1].write_bytes(pem(numbers.private_key()))

    reason, sentence = refused("import", *map(str, files), *room.options(device=room.devices[0].file))

    assert reason == "shared_factor"
    assert "a.pem" in sentence and "b.pem" in sentence
    assert not remains_of(room.out)


def test_a_weak_key_is_refused_by_name_and_reason(tmp_path: Path) -> None:
    """Splitting does not make a weak key strong."""
    room = Room.furnish(tmp_path)
    for name, key in {"small": new_key(bits=1024), "three": new_key(e=3)}.items():
        (tmp_path / f"{name}.pem").write_bytes(pem(key))
    one_device = room.options(device=room.devices[0].file)

    assert refused("import", str(tmp_path / "small.pem"), *one_device)[0] == "short_modulus"
    reason, sentence = refused("import", str(tmp_path / "three.pem"), *one_device)
    assert reason == "unusual_exponent" and "three.pem" in sentence and "--allow-exponent" in sentence
    assert not remains_of(room.out)


def test_an_unusual_exponent_is_dealt_on_demand(tmp_path: Path) -> None:
    """Some old keys have e = 3; with PKCS#1 v1.5 and PSS that is not broken, only unusual."""
    room, key = Room.furnish(tmp_path), new_key(e=3)
    (tmp_path / "three.pem").write_bytes(pem(key))

    succeeds("import", str(tmp_path / "three.pem"), *room.options(device=room.devices[0].file), "--allow-exponent")

    assert manifest_of(room.out).keys[0].key.exponent == 3
    signs_as(room, room.out, 0, key)


def test_files_that_give_no_key_are_refused(tmp_path: Path) -> None:
    """Each with its own reason, and without a word of their content."""
    room = Room.furnish(tmp_path)
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    contents = {
        "not_rsa": curve,
        "unreadable": b"hello",
        "several_keys": pem(new_key()) + pem(new_key()),
        "needs_passphrase": as_file(new_key(), "pkcs8 encrypted"),
        "too_large": b"x" * (300 * 1024),
    }
    for reason, content in contents.items():
        (tmp_path / f"{reason}.pem").write_bytes(content)

        given = refused("import", str(tmp_path / f"{reason}.pem"), *room.options(device=room.devices[0].file))

        assert given[0] == reason
        assert f"{reason}.pem" in given[1]
    assert not remains_of(room.out)


@pytest.mark.parametrize("form", ["pkcs1 encrypted", "pkcs8 encrypted", "p12"])
def test_a_wrong_passphrase_is_refused(tmp_path: Path, form: str) -> None:
    """And nothing is made."""
    room = Room.furnish(tmp_path)
    (tmp_path / "old.key").write_bytes(as_file(new_key(), form))
    wrong = room.passphrase_file("not the passphrase")

    reason, sentence = refused(
        "import", str(tmp_path / "old.key"), *room.options(device=room.devices[0].file), "--passphrase-file", str(wrong)
    )

    assert reason == "wrong_passphrase"
    assert "not the passphrase" not in sentence
    assert not remains_of(room.out)

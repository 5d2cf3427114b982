"""`tandem-keys generate`, from recipient files to halves that their holders open."""

from __future__ import annotations

import json
import math
import stat
import time
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers
from cryptography.hazmat.primitives.hashes import SHA256
from dealers_room import PASSPHRASE, RP_ID, Holder, Room, files_of, manifest_of, refused, remains_of, run, succeeds

from keys.ceremony.ceremony_key import read_ceremony_key
from keys.dealing.one_key import generate_source
from keys.dealing.processes import available_processes
from keys.dealing.trial_signature import TrialFailed, check_halves, try_halves
from mpc.primitives.hpke import HpkeSuite
from mpc.primitives.rng import SystemRng
from mpc.provisioning.manifest import CeremonyKind, DealtKey, share_path
from mpc.provisioning.signed_document import key_fingerprint
from mpc.provisioning.times import from_text
from mpc.threshold_rsa.encodings import Algorithm, encode_message
from mpc.threshold_rsa.share_package import PackageProblem, SharePackageError
from mpc.threshold_rsa.shares import KeyShare, split
from mpc.threshold_rsa.signing import combine, partial_signature


def signs(folder: Path, dealt: DealtKey, server: Holder, device: Holder) -> None:
    """Both holders open their halves and sign; an independent library verifies with the manifest's public key."""
    halves = [device.opens(folder, dealt), server.opens(folder, dealt)]
    encoded = encode_message(Algorithm.RS256, b"a login", None, dealt.key.bits)
    signature = combine(dealt.key, encoded, *(partial_signature(half.share, encoded) for half in halves))
    public = RSAPublicNumbers(dealt.key.exponent, dealt.key.modulus).public_key()
    public.verify(signature, b"a login", PKCS1v15(), SHA256())


def test_both_holders_open_their_halves_and_sign_together(tmp_path: Path) -> None:
    """What a ceremony is for: afterwards two parties hold a key that nobody holds."""
    room = Room.furnish(tmp_path)

    succeeds("generate", *room.options(), "--operator", "Grace", "--witness", "Alan", "--witness", "Emmy")

    manifest = manifest_of(room.out)
    assert (manifest.kind, manifest.revision, manifest.previous) == (CeremonyKind.GENERATE, 0, None)
    assert (manifest.operators, manifest.witnesses) == (("Grace",), ("Alan", "Emmy"))
    assert (manifest.rp_id, manifest.not_after) == (RP_ID, None)
    assert [dealt.key.bits for dealt in manifest.keys] == [2048]
    signs(room.out, manifest.keys[0], room.server, room.devices[0])
    half = room.devices[0].opens(room.out, manifest.keys[0])
    assert (half.epoch, half.ceremony_id, half.rp_id) == (0, manifest.ceremony_id, RP_ID)
    succeeds("verify", str(room.out))


def test_every_device_gets_its_own_keys_and_no_other_device_opens_them(tmp_path: Path) -> None:
    """A fleet is dealt in one ceremony; a mix-up would give one person another's key."""
    room = Room.furnish(tmp_path, devices=("alice", "bob"))

    succeeds("generate", *room.options(), "--count", "2")

    manifest = manifest_of(room.out)
    alice, bob = room.devices
    assert [dealt.device for dealt in manifest.keys] == [alice.recipient.id] * 2 + [bob.recipient.id] * 2
    for dealt, device in zip(manifest.keys, (alice, alice, bob, bob), strict=True):
        signs(room.out, dealt, room.server, device)
    with pytest.raises(SharePackageError) as caught:
        foreign = room.out / share_path(bob.recipient, manifest.keys[2].key.key_id)
        alice_path = room.out / f"device/{alice.recipient.enrolment_id.hex()}" / foreign.name
        alice_path.write_bytes(foreign.read_bytes())
        alice.opens(room.out, manifest.keys[2])
    assert caught.value.reason == PackageProblem.OTHER_RECIPIENT


@pytest.mark.parametrize("bits", [3072, 4096])
def test_larger_keys_and_the_hybrid_suite_work_alike(tmp_path: Path, bits: int) -> None:
    """The sizes and suites offered are all real."""
    room = Room.furnish(tmp_path, suite=HpkeSuite.MLKEM768_X25519)

    succeeds("generate", *room.options(), "--bits", str(bits))

    manifest = manifest_of(room.out)
    assert manifest.keys[0].key.bits == bits
    signs(room.out, manifest.keys[0], room.server, room.devices[0])


def test_worker_processes_deal_as_one_process_does(tmp_path: Path) -> None:
    """From some number of keys on, others compute them: nothing may get lost or exchanged on the way."""
    room = Room.furnish(tmp_path, devices=("alice", "bob", "carol"))

    succeeds("generate", *room.options(), "--count", "8", "--processes", "2")

    manifest = manifest_of(room.out)
    assert len({dealt.key.modulus for dealt in manifest.keys}) == 24
    by_id = {device.recipient.id: device for device in room.devices}
    assert [dealt.device for dealt in manifest.keys] == [d.recipient.id for d in room.devices for _ in range(8)]
    for dealt in manifest.keys:
        signs(room.out, dealt, room.server, by_id[dealt.device])
    succeeds("verify", str(room.out))
    assert available_processes() >= 1


def test_nobody_else_on_the_machine_can_read_the_folder(tmp_path: Path) -> None:
    """Sealed halves are not secret, but who collects them needs only one key later."""
    room = Room.furnish(tmp_path)

    succeeds("generate", *room.options())

    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (room.out, *room.out.rglob("*"))}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert remains_of(room.out) == ["ceremony"]


def test_the_end_of_validity_reaches_every_half(tmp_path: Path) -> None:
    """Server and device honour what the sealed package says, so it must be there."""
    room = Room.furnish(tmp_path)
    before = int(time.time())

    succeeds("generate", *room.options(), "--not-after", "2031-02-03T04:05:06Z")
    succeeds("generate", *room.options(tmp_path / "days"), "--valid-days", "30")

    ends = []
    for folder in (room.out, tmp_path / "days"):
        manifest = manifest_of(folder)
        ends.append(manifest.not_after)
        for who in (room.server, room.devices[0]):
            assert who.opens(folder, manifest.keys[0]).not_after == manifest.not_after
    assert ends[0] == from_text("2031-02-03T04:05:06Z")
    assert ends[1] is not None and 0 <= ends[1] - before - 30 * 86_400 <= 60


def test_a_lasting_ceremony_key_signs_every_ceremony(tmp_path: Path) -> None:
    """A team that publishes one fingerprint must find it on all its manifests."""
    room = Room.furnish(tmp_path)
    passphrase, key_file = room.passphrase_file(), tmp_path / "team.key"
    with_key = ["--ceremony-key", str(key_file), "--ceremony-passphrase-file", str(passphrase)]

    made = succeeds("ceremony-key", "--out", str(key_file), "--ceremony-passphrase-file", str(passphrase))
    shown = [
        json.loads(succeeds("generate", *room.options(tmp_path / name), *with_key, "--json").stdout)["ceremony_key"]
        for name in ("one", "two")
    ]

    key = read_ceremony_key(key_file, PASSPHRASE)
    fingerprint = key_fingerprint(key.public_key().public_bytes_raw())
    assert made.stdout == f"ceremony's key: {fingerprint}\n"
    assert shown == [fingerprint, fingerprint]
    assert key_file.read_bytes()[:6] == b"TCEK\x01\x11" and key.private_bytes_raw() not in key_file.read_bytes()
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600
    succeeds("verify", str(tmp_path / "two"), "--ceremony-key-fingerprint", fingerprint.lower().replace("-", " "))


def test_without_a_ceremony_key_each_ceremony_has_a_fresh_one(tmp_path: Path) -> None:
    """A key that is forgotten at the end signs nothing else."""
    room = Room.furnish(tmp_path)

    results = [
        json.loads(succeeds("generate", *room.options(tmp_path / name), "--json").stdout) for name in ("one", "two")
    ]

    assert results[0]["ceremony_key"] != results[1]["ceremony_key"]
    assert results[0]["ceremony_id"] != results[1]["ceremony_id"]
    assert not [path for path, data in files_of(tmp_path).items() if b"PRIVATE KEY" in data]


def test_the_manifest_says_how_recipients_were_compared(tmp_path: Path) -> None:
    """Nobody can claim later that fingerprints were read out if they were not."""
    room = Room.furnish(tmp_path)
    given = [room.server.recipient.fingerprint, room.devices[0].recipient.fingerprint.lower().replace("-", " ")]

    result = succeeds("generate", *room.asking(), *(part for text in given for part in ("--expect", text)))
    succeeds("generate", *room.options(tmp_path / "unasked"))

    for folder, how in ((room.out, "with given fingerprints"), (tmp_path / "unasked", "not compared")):
        assert manifest_of(folder).parameters["recipients compared"] == how
        assert f"recipients compared: {how}\n" in succeeds("verify", str(folder)).stdout
        document = json.loads(succeeds("verify", str(folder), "--json").stdout)
        assert document["parameters"]["recipients compared"] == how
        assert how in (folder / "report.html").read_text(encoding="utf-8")
    unasked = (tmp_path / "unasked" / "report.html").read_text(encoding="utf-8")
    assert "nobody compared their fingerprints" in unasked
    assert "nobody compared their fingerprints" not in (room.out / "report.html").read_text(encoding="utf-8")
    assert all(who.recipient.fingerprint in result.stderr for who in (room.server, *room.devices))


def test_an_unexpected_recipient_stops_the_ceremony(tmp_path: Path) -> None:
    """An attacker who exchanges a recipient file would otherwise get a half."""
    room = Room.furnish(tmp_path)

    reason, sentence = refused("generate", *room.asking(), "--expect", room.server.recipient.fingerprint)

    assert reason == "unexpected_recipient"
    assert room.devices[0].recipient.fingerprint in sentence
    assert not remains_of(room.out)


def test_where_nobody_can_be_asked_nothing_is_made_unless_told(tmp_path: Path) -> None:
    """A script that forgot the fingerprints must not deal to whoever exchanged a file."""
    room = Room.furnish(tmp_path)

    reason, sentence = refused("generate", *room.asking())

    assert reason == "not_compared"
    assert "--expect" in sentence and "--not-compared" in sentence
    assert not remains_of(room.out)


def test_an_expected_recipient_whose_file_is_missing_stops_the_ceremony(tmp_path: Path) -> None:
    """Somebody took it away on the way; with exit code 0, fewer keys than wanted would go unnoticed."""
    room = Room.furnish(tmp_path, devices=("alice", "bob"))
    room.devices[1].file.unlink()

    reason, sentence = refused("generate", *room.asking(), *room.expected())

    assert reason == "unmet_expectation" and room.devices[1].recipient.fingerprint in sentence
    assert not remains_of(room.out)


def test_an_expectation_with_a_name_holds_for_the_file_of_that_name_alone(tmp_path: Path) -> None:
    """Who types whose fingerprint it is wants exactly that compared."""
    room = Room.furnish(tmp_path, devices=("alice", "bob"))
    alice, bob = (who.recipient.fingerprint for who in room.devices)
    exchanged = ["--expect", f"alice={bob}", "--expect", f"bob={alice}", *room.expected()[:2]]

    reason, sentence = refused("generate", *room.asking(), *exchanged)
    result = succeeds("generate", *room.asking(), *room.expected(by_name=True))

    assert reason == "unexpected_recipient" and "alice.json" in sentence
    assert f"alice.json: {alice}  device device alice" in result.stderr
    assert "alice.json" in (room.out / "report.html").read_text(encoding="utf-8")


def test_halves_that_pass_the_check_sign_and_those_of_a_faulty_machine_do_neither() -> None:
    """The arithmetic stands for a signature of every message, so it must say what a signature says."""
    source = generate_source(2048)
    device, server = split(SystemRng(), source.public, source.private_exponent)
    another_d = math.lcm(source.p - 1, source.q - 1)  # added to d, it makes the same signatures
    longer = KeyShare(source.public, server.value + another_d)

    for other in (server, longer):
        check_halves(source, device, other)
        try_halves(device, other)


@pytest.mark.parametrize("wrong", ["device", "server"])
@pytest.mark.parametrize("change", [1, -1, 1 << 1024, 65537])
def test_halves_that_do_not_fit_are_not_handed_out(wrong: str, change: int) -> None:
    """A fault of the machine must show before anything is sealed."""
    source = generate_source(2048)
    device, server = split(SystemRng(), source.public, source.private_exponent)
    if wrong == "device":
        device = KeyShare(source.public, device.value + change)
    else:
        server = KeyShare(source.public, server.value + change)

    with pytest.raises(TrialFailed):
        check_halves(source, device, server)
    with pytest.raises(TrialFailed):
        try_halves(device, server)


def test_a_check_with_other_primes_than_the_modulus_has_is_none() -> None:
    source, other = generate_source(2048), generate_source(2048)
    halves = split(SystemRng(), source.public, source.private_exponent)
    square = replace(source, q=source.p)

    for odd in (replace(other, modulus=source.modulus), square):
        with pytest.raises(TrialFailed):
            check_halves(odd, *halves)


def test_a_usage_error_is_told_from_a_refusal(tmp_path: Path) -> None:
    """Scripts tell exit code 2, a wrong call, from 1, a state of affairs."""
    room = Room.furnish(tmp_path)
    wrong = [
        ("--bits", "1024"),
        ("--count", "0"),
        ("--not-after", "2031-02-03"),
        ("--not-after", "2020-02-03T04:05:06Z"),
        ("--not-after", "2031-02-03T04:05:06Z", "--valid-days", "3"),
        ("--rp-id", "https://example.com"),
        ("--rp-id", "Example.com"),
        ("--operator", " Grace"),
        ("--operator", "Gr\x1bace"),
        ("--witness", "x" * 101),
        ("--witness", ""),
        ("--expect", "ABCD"),
        ("--expect", "alice=ABCD"),
        ("--expect", room.server.recipient.fingerprint),  # beside --not-compared
    ]

    for options in wrong:
        result = run("generate", *room.options(), *options)
        assert result.exit_code == 2, (options, result.output)
        assert not remains_of(room.out)

"""A ceremony's folder as a whole: each way in which it can differ from its manifest, with reason and file."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from dealt_folder import (
    ANN,
    BOB,
    DEALT,
    NOW,
    SERVER,
    Folder,
    ceremony,
    dealt_pair,
    files,
    half,
    holder,
    key_id,
    manifest,
    recipient,
    signed_again,
)

from mpc.primitives.hpke import HpkeSuite
from mpc.provisioning.ceremony import Ceremony, CeremonyError, check_ceremony
from mpc.provisioning.manifest import CeremonyKind, DealtKey, SignedManifest, recipient_path, share_path
from mpc.provisioning.recipient import new_recipient
from mpc.threshold_rsa.share_package import Role, open_share

BOTH = frozenset(Role)
FOLDER = ceremony()
SERVER_HALF, ANN_HALF, BOB_HALF = (
    share_path(SERVER, key_id(0)),
    share_path(ANN, key_id(0)),
    share_path(BOB, key_id(1)),
)


def checked(folder: Folder, roles: Collection[Role] = BOTH, listing: Collection[str] | None = ()) -> Ceremony:
    return check_ceremony(folder.get, roles=roles, listing=folder if listing == () else listing)


def refusal(folder: Folder, **options: Any) -> tuple[str, str]:
    """(reason, path) for which this folder is refused; fails if it passes."""
    with pytest.raises(CeremonyError) as caught:
        checked(folder, **options)
    assert str(caught.value).isprintable()
    return caught.value.reason, caught.value.path


# --- what passes -----------------------------------------------------------------------------------------------


def test_a_folder_as_its_manifest_says_passes_and_its_halves_open_where_they_lie() -> None:
    done = checked(FOLDER)

    assert done.manifest == SignedManifest.decode(FOLDER["manifest.json"]).manifest
    assert set(done.recipients) == {SERVER.id, ANN.id, BOB.id}
    for number, dealt in enumerate(done.manifest.keys):
        for role, name in ((Role.SERVER, "auth"), (Role.DEVICE, ("Ann's phone", "Bob's phone")[number == 1])):
            private, owner = holder(role, name)
            assert done.recipient_of(dealt, role) == owner
            package = open_share(
                FOLDER[done.path_of(dealt, role)],
                private,
                recipient_id=owner.id,
                expected_role=role,
                expected_key_id=dealt.key.key_id,
            )
            assert package.share == dealt_pair(number)[1 if role is Role.DEVICE else 2]


def test_progress_counts_every_half_to_the_end() -> None:
    seen: list[tuple[int, int]] = []

    check_ceremony(FOLDER.get, roles=BOTH, progress=lambda done, total: seen.append((done, total)))

    assert seen == [(done, 6) for done in range(7)]


def test_halves_that_were_delivered_already_may_be_gone_but_not_changed() -> None:
    """The server imports from a folder whose device files have been handed out, or lie there still."""
    delivered = {path: data for path, data in FOLDER.items() if not path.startswith("device/")}

    assert checked(delivered, roles={Role.SERVER}).manifest.keys == DEALT
    assert refusal(delivered, roles={Role.DEVICE}) == ("missing", ANN_HALF)
    assert refusal(delivered)[0] == "missing"
    left_over = delivered | {BOB_HALF: half(1, BOB)}
    assert refusal(left_over, roles={Role.SERVER}) == ("altered", BOB_HALF)


def test_an_expired_ceremony_is_still_a_true_one() -> None:
    """Whether it may be used is for the importer to say; that it was made so is a fact for good."""
    folder = {path: data for path, data in files().items() if not path.endswith(".share")}
    for number, owner in enumerate((ANN, BOB, ANN)):
        for to in (SERVER, owner):
            folder[share_path(to, key_id(number))] = half(number, to, not_after=1)

    assert checked(signed_again(folder, not_after=1)).manifest.not_after == 1


def test_a_folder_by_another_signer_passes_with_another_fingerprint() -> None:
    """The check cannot know who should have signed: whoever calls it must compare the fingerprint."""
    forged = ceremony(Ed25519PrivateKey.generate())

    assert checked(forged).manifest == checked(FOLDER).manifest
    assert checked(forged).signed.fingerprint != checked(FOLDER).signed.fingerprint


# --- missing and altered ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(FOLDER), ids=lambda path: path.split("/")[0])
def test_a_missing_file_is_named(path: str) -> None:
    folder = {name: data for name, data in FOLDER.items() if name != path}

    assert refusal(folder) == ("missing", path)


@pytest.mark.parametrize("path", sorted(set(FOLDER) - {"manifest.json"}), ids=lambda path: path.split("/")[0])
def test_an_altered_file_is_named(path: str) -> None:
    data = FOLDER[path]
    for damaged in (b"", data[:-1], data + b"\n", bytes([data[0] ^ 1]) + data[1:], data[:-1] + bytes([data[-1] ^ 1])):
        assert refusal(FOLDER | {path: damaged}) == ("altered", path)


def test_every_pair_of_exchanged_files_is_noticed() -> None:
    """Each half is honest, but in another's place."""
    names = sorted(set(FOLDER) - {"manifest.json"})
    for at, one in enumerate(names):
        for two in names[at + 1 :]:
            exchanged = FOLDER | {one: FOLDER[two], two: FOLDER[one]}
            reason, path = refusal(exchanged)
            assert reason == "altered" and path in (one, two)


@pytest.mark.parametrize(
    "data",
    [b"", b"{}", FOLDER["manifest.json"][:-5], FOLDER["manifest.json"].replace(b"shop", b"bank"), SERVER.document],
    ids=["empty", "no manifest", "cut", "changed", "a recipient"],
)
def test_a_manifest_that_does_not_verify_stops_everything(data: bytes) -> None:
    assert refusal(FOLDER | {"manifest.json": data}) == ("wrong_manifest", "manifest.json")


def test_a_folder_without_a_manifest_is_no_ceremony() -> None:
    assert refusal({}) == ("missing", "manifest.json")


@pytest.mark.parametrize(
    "name",
    [
        "extra.txt",
        "server/other.share",
        "device/x/y.share",
        "../outside",
        "/etc/passwd",
        ".hidden",
        "manifest.json.bak",
    ],
)
def test_a_file_that_the_manifest_does_not_know_is_named(name: str) -> None:
    assert refusal(FOLDER | {name: b"x"}) == ("unlisted", name)


@pytest.mark.parametrize("name", ["\x1b]0;owned\x07", "a\nb", "\u202etxt.share", "half\udcff"], ids=ascii)
def test_the_name_of_a_strangers_file_cannot_steer_the_terminal(name: str) -> None:
    """Whoever may write to the exchange medium chooses names; the operator must still be told which file."""
    with pytest.raises(CeremonyError) as caught:
        checked(FOLDER | {name: b"x"})

    text = str(caught.value)
    assert text.isprintable() and text.isascii() and ascii(name) in text
    text.encode("utf-8")


# --- a dealer who contradicts himself --------------------------------------------------------------------------


def resealed(path: str, data: bytes) -> Folder:
    """One file replaced and the manifest made anew for it, all hashes right: only the meaning is wrong."""
    return signed_again(files() | {path: data})


def hybrid_server_half() -> bytes:
    _, other = new_recipient(
        role=Role.SERVER, name="x", server_id="x", enrolment_id=None, suite=HpkeSuite.MLKEM768_X25519, now=NOW
    )
    return half(0, replace(SERVER, public_key=other.public_key))


@pytest.mark.parametrize(
    "data",
    [
        lambda: half(0, SERVER, ceremony_id=bytes(16)),
        lambda: half(0, SERVER, rp_id="bank.example"),
        lambda: half(0, SERVER, not_after=NOW),
        lambda: half(1, SERVER),
        lambda: half(0, ANN),
        lambda: half(0, replace(SERVER, id=ANN.id)),
        hybrid_server_half,
        lambda: b"",
        lambda: b"no share",
        lambda: FOLDER[SERVER_HALF][:-1],
        lambda: FOLDER[SERVER_HALF] + b"\x00",
        lambda: SERVER.document,
    ],
    ids=[
        "of another ceremony",
        "for another relying party",
        "with another expiry",
        "of another key",
        "of the other side",
        "for another recipient",
        "in another suite",
        "empty",
        "no share",
        "cut",
        "prolonged",
        "a recipient",
    ],
)
def test_a_half_that_is_not_what_the_manifest_says_is_refused_though_its_hash_fits(data: Any) -> None:
    checked(resealed(SERVER_HALF, half(0, SERVER)))

    assert refusal(resealed(SERVER_HALF, data())) == ("inconsistent", SERVER_HALF)


def test_a_recipient_file_under_another_recipients_name_is_refused() -> None:
    path = recipient_path(ANN)

    assert refusal(resealed(path, BOB.document)) == ("inconsistent", path)
    assert refusal(resealed(path, b"{}")) == ("inconsistent", path)
    assert refusal(resealed(path, ANN.document.replace(b"Ann", b"Eve"))) == ("inconsistent", path)


@pytest.mark.parametrize(
    "dealt",
    [
        replace(DEALT[0], server=ANN.id),
        replace(DEALT[0], device=SERVER.id),
        replace(DEALT[0], server=ANN.id, device=SERVER.id),
        replace(DEALT[0], server=bytes(32)),
        replace(DEALT[0], device=bytes(32)),
    ],
    ids=["device as server", "server as device", "both exchanged", "unknown server", "unknown device"],
)
def test_a_key_for_recipients_of_the_wrong_role_or_unknown_is_refused(dealt: DealtKey) -> None:
    folder = signed_again(files(), keys=(dealt, *DEALT[1:]))

    assert refusal(folder) == ("inconsistent", "manifest.json")


def test_a_device_of_another_server_is_refused() -> None:
    """Its half would be useless: the device is enrolled elsewhere, and this server would wait for ever."""
    stranger = recipient(Role.DEVICE, "Cid's phone", "elsewhere.example")
    folder = files() | {recipient_path(stranger): stranger.document, share_path(stranger, key_id(0)): half(0, stranger)}
    del folder[ANN_HALF]

    refused = signed_again(
        folder,
        recipients=(SERVER.id, ANN.id, BOB.id, stranger.id),
        keys=(replace(DEALT[0], device=stranger.id), *DEALT[1:]),
    )

    assert refusal(refused) == ("inconsistent", "manifest.json")


def test_a_folder_for_two_servers_keeps_each_with_its_own_devices() -> None:
    """One ceremony may serve a fleet with two servers; a device then still belongs to one of them."""
    other_server = recipient(Role.SERVER, "second", "second.example")
    cid = recipient(Role.DEVICE, "Cid's phone", "second.example")
    folder = files()
    for each in (other_server, cid):
        folder[recipient_path(each)] = each.document
        folder[share_path(each, key_id(3))] = half(3, each)
    everybody = (SERVER.id, ANN.id, BOB.id, other_server.id, cid.id)
    right = DealtKey(dealt_pair(3)[0], other_server.id, cid.id)

    assert len(checked(signed_again(folder, recipients=everybody, keys=(*DEALT, right))).manifest.keys) == 4

    wrong = DealtKey(dealt_pair(3)[0], SERVER.id, cid.id)
    assert refusal(signed_again(folder, recipients=everybody, keys=(*DEALT, wrong)))[0] == "inconsistent"


@pytest.mark.parametrize(
    "path",
    [
        "../../outside",
        "/etc/passwd",
        "server/../../x",
        "device/../server/x.share",
        "C:\\x",
        "manifest.json",
        "",
        "\x00",
    ],
)
def test_a_path_in_the_manifest_is_never_opened(path: str) -> None:
    """Where a file lies follows from what it is; a manifest that names another place is refused before any reading."""
    folder = files()
    hashes = {name: hashlib.sha256(data).digest() for name, data in folder.items()}
    folder["manifest.json"] = manifest(folder, files=hashes | {path: bytes(32)}).sign(
        Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
    )
    asked: list[str] = []

    def read(name: str) -> bytes | None:
        asked.append(name)
        return folder.get(name)

    with pytest.raises(CeremonyError) as caught:
        check_ceremony(read, roles=BOTH)

    assert (caught.value.reason, caught.value.path) == ("inconsistent", "manifest.json")
    assert path not in asked or path == "manifest.json"
    assert all(name == "manifest.json" or name.startswith("recipients/") for name in asked)


def test_only_places_that_follow_from_the_content_are_read() -> None:
    asked: set[str] = set()

    def read(name: str) -> bytes | None:
        asked.add(name)
        return FOLDER.get(name)

    check_ceremony(read, roles=BOTH)

    assert asked == set(FOLDER)


@pytest.mark.parametrize("path", [SERVER_HALF, ANN_HALF, "report.html", recipient_path(ANN)], ids=lambda path: path[:9])
def test_a_file_without_a_hash_in_the_manifest_is_refused(path: str) -> None:
    folder = files()
    hashes = {name: hashlib.sha256(data).digest() for name, data in folder.items() if name != path}

    assert refusal(signed_again(folder, files=hashes))[0] in {"inconsistent", "altered"}


def test_a_recipient_left_out_of_the_list_is_refused() -> None:
    assert refusal(signed_again(files(), recipients=(SERVER.id, ANN.id))) == ("inconsistent", "manifest.json")


# --- rewrap ----------------------------------------------------------------------------------------------------


def test_a_rewrapped_folder_passes_with_the_new_holder_and_names_its_predecessor() -> None:
    new = recipient(Role.DEVICE, "Ann's new phone")
    folder = {path: data for path, data in files().items() if "/" + (ANN.enrolment_id or b"").hex() not in path}
    del folder[recipient_path(ANN)]
    folder[recipient_path(new)] = new.document
    for number in (0, 2):
        folder[share_path(new, key_id(number))] = half(number, new)
    previous = hashlib.sha256(FOLDER["manifest.json"]).digest()

    rewrapped = signed_again(
        folder,
        kind=CeremonyKind.REWRAP,
        revision=1,
        previous=previous,
        recipients=(SERVER.id, BOB.id, new.id),
        keys=tuple(replace(dealt, device=new.id) if dealt.device == ANN.id else dealt for dealt in DEALT),
    )
    done = checked(rewrapped)

    assert done.manifest.previous == previous and done.manifest.ceremony_id == checked(FOLDER).manifest.ceremony_id
    assert done.recipient_of(done.manifest.keys[0], Role.DEVICE).enrolment_id == new.enrolment_id
    left_over = rewrapped | {ANN_HALF: FOLDER[ANN_HALF]}
    assert refusal(left_over) == ("unlisted", ANN_HALF)

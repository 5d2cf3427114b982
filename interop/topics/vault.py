"""The vault file of this SDK: for those who write a device that reads vaults of this one, or want a worked example."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

from device_sdk.vault import KeyFile, Passphrase
from device_sdk.vault.file import VaultFile
from device_sdk.vault.header import Header, KeyRecipe, KeySource, ScryptCost
from device_sdk.vault.keys import VaultKey, vault_cipher
from device_sdk.vault.state import Credential, DeviceState, NextShares
from interop.drawing import Draws
from interop.enrolled import (
    BASE_OT_ID,
    CREDENTIAL_ID,
    ENROLMENT_ID,
    RP_ID,
    SERVER_ID,
    SIM_512,
    USER_HANDLE,
    base_ot,
    enrolled,
)
from interop.given_keys import given_key
from interop.notation import Json, cbor, digest, topic
from mpc.login.messages import Confirmation
from mpc.threshold_rsa.encodings import Algorithm
from mpc.threshold_rsa.shares import refreshed, split

_PASSPHRASE: Final = "correct horse battery staple"  # noqa: S105 - published, and of a vault of nobody
_CHEAP = ScryptCost(log2_n=15, r=8, p=1)
"""The cheapest that a vault may ask for, so that the vectors are made quickly; new vaults ask for log2_n = 17."""


def vectors() -> Json:
    draws = Draws("tandem vectors: vault")
    with draws.named("d2", "request key", "token", "key file", "salt", "nonce", "salt", "nonce") as drawn:
        payload = _state(draws).encode()
        with tempfile.TemporaryDirectory() as folder:
            key_file = Path(folder) / "ann.key"
            key_file.touch(mode=0o600)
            material = draws.bytes(32)
            key_file.write_bytes(material)
            by_file = _vault(draws, KeyFile(key_file), KeySource.KEY_FILE, None, payload, Path(folder))
            by_passphrase = _vault(draws, Passphrase(_PASSPHRASE), KeySource.PASSPHRASE, _CHEAP, payload, Path(folder))
    return topic(
        "Vault files",
        "One state, locked in two ways. The protocol does not ask for this format: a device may keep its state as it "
        "likes, as long as writes are durable and no old state comes back. The layout is in "
        "device_sdk/vault/header.py, the keys are HKDF-SHA-256 of the key material under the salt.",
        ["docs/sdk.md, vault keys", "docs/vectors/README.md"],
        {
            "seed": draws.seed,
            "draws": drawn,
            "payload": cbor(payload),
            "key_file": {"key material": material.hex(), **by_file},
            "passphrase": {"passphrase": _PASSPHRASE, **by_passphrase},
        },
    )


def _state(draws: Draws) -> DeviceState:
    key, keys, person = given_key(2048), base_ot(), enrolled(SIM_512, "tandem vectors: template of the vault")
    share, _ = split(draws, key.public, key.d)
    credential = Credential(
        credential_id=CREDENTIAL_ID,
        rp_id=RP_ID,
        user_handle=USER_HANDLE,
        user_name="ann",
        user_display_name="Ann",
        algorithm=Algorithm.RS256,
        key_share=share,
        sign_count=7,
        discoverable=True,
        provisional=False,
        created_at=1_800_000_000,
    )
    request_key = draws.bytes(32)
    return DeviceState(
        server_url="https://auth.example",
        server_id=SERVER_ID,
        profile=SIM_512,
        enrolment_id=ENROLMENT_ID,
        request_key=request_key,
        base_ot_id=BASE_OT_ID,
        base_keys=keys.device_keys,
        epoch=3,
        ot_index=7,
        template=person.device,
        credentials=(credential,),
        next=NextShares(Confirmation(7, draws.bytes(32)), CREDENTIAL_ID, refreshed(share, -1), person.device),
        history_from=0,
    )


def _vault(
    draws: Draws, key: VaultKey, source: KeySource, cost: ScryptCost | None, payload: bytes, folder: Path
) -> Json:
    """The file as `VaultFile.write` lays it out, with a drawn salt and nonce; `VaultFile` then opens it."""
    recipe = KeyRecipe(source, draws.bytes(32), cost)
    cipher, check = vault_cipher(key, recipe, creating=False)
    nonce = draws.bytes(12)
    header = Header(recipe, check, len(payload) + 16, nonce).encode()
    sealed = cipher.encrypt(nonce, payload, header)
    path = folder / f"{source.name}.vault"
    path.write_bytes(header + sealed)
    with VaultFile.open(path, key) as vault:
        assert vault.read() == payload
    return {"header": header.hex(), "key check": check.hex(), "nonce": nonce.hex(), "ciphertext": digest(sealed)}

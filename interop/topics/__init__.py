"""One file of vectors a module; `TOPICS` names them all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from interop.notation import Json
from interop.topics import (
    base_ot,
    cbor,
    enrolment,
    garbling,
    hashing,
    history,
    logins,
    ot_extension,
    other_messages,
    provisioned_keys,
    real_sizes,
    request_signature,
    sign_projection,
    split_keys,
    split_signatures,
    vault,
    webauthn,
)

TOPICS: Final[dict[str, Callable[[], Json]]] = {
    "cbor": cbor.vectors,
    "hashing": hashing.vectors,
    "sign-projection": sign_projection.vectors,
    "base-ot": base_ot.vectors,
    "enrolment": enrolment.vectors,
    "split-keys": split_keys.vectors,
    "split-signatures": split_signatures.vectors,
    "ot-extension": ot_extension.vectors,
    "garbling": garbling.vectors,
    "login-rs256": logins.rs256,
    "login-ps256": logins.ps256,
    "login-no-match": logins.no_match,
    "login-real-sizes": real_sizes.vectors,
    "other-messages": other_messages.vectors,
    "provisioned-keys": provisioned_keys.vectors,
    "history": history.vectors,
    "request-signature": request_signature.vectors,
    "webauthn": webauthn.vectors,
    "vault": vault.vectors,
}
"""File name, without its ending, to what makes the content. In the order in which an implementer needs them."""

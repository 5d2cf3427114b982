"""What an authenticator is asked to make, whoever asks: an app in JSON, or a client that speaks CTAP."""

from __future__ import annotations

from dataclasses import dataclass, field

from mpc.login.extension_outputs import CredProtect
from mpc.threshold_rsa.encodings import Algorithm


@dataclass(frozen=True, slots=True)
class NewCredential:
    """The account and the kind of key. `rp_id` was checked by whoever knows the origin.

    user_handle: 1 to 64 bytes. The names, up to 1,024 bytes of text each, may be empty. `excluded_ids`: where a passkey
    with one of these ids is here and of `rp_id`, none is made. `cred_protect`: None where nobody asked for a level; it
    is then the lowest, and the authenticator data do not tell it. `uvm`: they are to tell how the user was verified.
    `attest`: whether to ask the server for an attestation by certificate; one that gives none still makes the
    credential.
    """

    rp_id: str
    user_handle: bytes = field(repr=False)
    user_name: str = field(repr=False)
    user_display_name: str = field(repr=False)
    algorithm: Algorithm
    discoverable: bool
    excluded_ids: tuple[bytes, ...] = field(default=(), repr=False)
    cred_protect: CredProtect | None = None
    uvm: bool = False
    attest: bool = False

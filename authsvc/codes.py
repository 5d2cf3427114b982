"""One-time codes that an operator hands to a person: 100 random bits, made to be read out and typed.

Only the hash is stored. A plain hash is enough, since nobody can try 2^100 codes.
"""

from __future__ import annotations

import hashlib

from mpc.primitives.rng import Rng

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
"""Crockford's 32 characters: no I, L, O, U."""

_CHARACTERS = 20
_GROUP = 5
_LOOK_ALIKES = str.maketrans({"I": "1", "L": "1", "O": "0", "-": "", " ": "", "\t": "", "\u2013": "", "\u2011": ""})


def new_code(rng: Rng) -> str:
    """A fresh code such as `7K2QX-0M9TN-4RWB8-ZC3HD`. 32 divides 256, so each character is uniform."""
    characters = "".join(ALPHABET[byte & 31] for byte in rng.bytes(_CHARACTERS))
    return "-".join(characters[at : at + _GROUP] for at in range(0, _CHARACTERS, _GROUP))


def normalise(text: str) -> str | None:
    """The 20 characters of what a person typed: any case, dashes and spaces anywhere, I and L for 1, O for 0.

    None if it cannot be a code.
    """
    if len(text) > 4 * _CHARACTERS:
        return None
    characters = text.strip().upper().translate(_LOOK_ALIKES)
    if len(characters) != _CHARACTERS or not set(characters) <= set(ALPHABET):
        return None
    return characters


def code_hash(text: str) -> bytes | None:
    """The 32 bytes under which a code is stored, or None if the text cannot be a code."""
    characters = normalise(text)
    return None if characters is None else hashlib.sha256(characters.encode("ascii")).digest()

"""`import`: key files from elsewhere, checked alone and against each other, and the device each of them is for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from keys.ceremony.input_files import read_input
from keys.ceremony.recipients import RecipientFile
from keys.refusal import Refusal
from keys.sources.batch_gcd import shared_factors
from keys.sources.source_key import SourceKey, SourceKeyError, load_source_key
from keys.sources.weak_keys import WeakKey, refuse_weak
from mpc.provisioning.recipient import Recipient

AskPassphrase = Callable[[str], bytes]
"""Gives the passphrase of a key file. Raises Refusal where nobody can be asked."""

_MAX_SOURCE_BYTES = 256 * 1024


def load_sources(paths: Sequence[Path], ask_passphrase: AskPassphrase, *, allow_exponent: bool) -> list[SourceKey]:
    """The keys, each fit to be dealt. Raises Refusal with the loader's or the check's reason, or "same_key",
    "shared_factor".
    """
    sources = [_load(path, ask_passphrase, allow_exponent=allow_exponent) for path in paths]
    for i, j in shared_factors([source.modulus for source in sources]):
        if sources[i].modulus == sources[j].modulus:
            raise Refusal("same_key", f"{paths[i]} and {paths[j]} hold the same key; give it once")
        raise Refusal(
            "shared_factor",
            f"the keys of {paths[i]} and {paths[j]} share a prime, so anybody can factor both: use neither",
        )
    return sources


def match_devices(paths: Sequence[Path], devices: Sequence[RecipientFile], *, one_file: bool) -> list[Recipient]:
    """For each key file its device: the only one, or the one whose file has the same name but for the ending.

    Raises Refusal: "no_device", "no_key".
    """
    if one_file:
        return [devices[0].recipient for _ in paths]
    by_stem = {device.stem: device.recipient for device in devices}
    for path in paths:
        if path.stem not in by_stem:
            raise Refusal("no_device", f"{path} has no recipient file {path.stem}.json among the devices")
    if unused := sorted(set(by_stem) - {path.stem for path in paths}):
        raise Refusal("no_key", f"{unused[0]}.json has no key file of that name; take it away or give its key")
    return [by_stem[path.stem] for path in paths]


def _load(path: Path, ask_passphrase: AskPassphrase, *, allow_exponent: bool) -> SourceKey:
    data = read_input(path, at_most=_MAX_SOURCE_BYTES)
    try:
        try:
            source = load_source_key(data, None)
        except SourceKeyError as error:
            if error.reason != "needs_passphrase":
                raise
            source = load_source_key(data, ask_passphrase(str(path)))
        refuse_weak(source, allow_exponent=allow_exponent)
    except (SourceKeyError, WeakKey) as error:
        raise Refusal(error.reason, f"{path}: {error}") from None
    return source

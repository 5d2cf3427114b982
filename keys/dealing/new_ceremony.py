"""A ceremony with new keys, generated or imported: everything dealt, written, checked and then published at once."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from keys.ceremony.output_folder import OutputFolder
from keys.ceremony.record import Attendance, CeremonyRecord, Origin
from keys.dealing.one_key import DealingTerms, SealedKey, deal
from keys.dealing.processes import deal_new_keys
from keys.refusal import Refusal
from keys.sources.batch_gcd import shared_factors
from keys.sources.source_key import SourceKey
from mpc.primitives.rng import SystemRng
from mpc.provisioning.manifest import CeremonyKind, DealtKey, Manifest
from mpc.provisioning.recipient import Recipient
from mpc.threshold_rsa.share_package import CEREMONY_ID_BYTES

Progress = Callable[[int, int], None]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class DealingPlan:
    """What is to be dealt and where it goes.

    not_after: Unix seconds, or None. file_names: by recipient's id, under which name its file was given.
    """

    out: Path
    server: Recipient
    rp_id: str
    not_after: int | None
    attendance: Attendance
    parameters: Mapping[str, str]
    file_names: Mapping[bytes, str]


def generate(
    plan: DealingPlan, devices: Sequence[Recipient], bits: int, processes: int, progress: Progress, tell: Tell
) -> Manifest:
    """A new key for each entry of `devices`. Raises Refusal, TrialFailed, OSError; nothing remains then."""
    terms = _terms(plan)
    return _hold(
        plan, terms, CeremonyKind.GENERATE, devices, deal_new_keys(terms, bits, devices, processes), progress, tell
    )


def import_sources(
    plan: DealingPlan, devices: Sequence[Recipient], sources: list[SourceKey], progress: Progress, tell: Tell
) -> Manifest:
    """The halves of given keys, each for the device at its place. Empties the list. Errors as for `generate`."""
    terms = _terms(plan)
    return _hold(plan, terms, CeremonyKind.IMPORT, devices, _deal_sources(terms, devices, sources), progress, tell)


def _deal_sources(
    terms: DealingTerms, devices: Sequence[Recipient], sources: list[SourceKey]
) -> Generator[tuple[int, SealedKey], None, None]:
    for index, device in enumerate(devices):
        # Taken from the list and given no name: `deal` then holds the only reference, and drops it before it seals.
        yield index, deal(SystemRng(), sources.pop(0), terms, device, test_signature=True)


def _terms(plan: DealingPlan) -> DealingTerms:
    return DealingTerms(secrets.token_bytes(CEREMONY_ID_BYTES), plan.rp_id, plan.not_after, plan.server)


def _hold(
    plan: DealingPlan,
    terms: DealingTerms,
    kind: CeremonyKind,
    devices: Sequence[Recipient],
    dealing: Generator[tuple[int, SealedKey], None, None],
    progress: Progress,
    tell: Tell,
) -> Manifest:
    with OutputFolder(plan.out, tell) as folder, closing(dealing):
        record = CeremonyRecord(folder, plan.file_names)
        recipients = list({recipient.id: recipient for recipient in (plan.server, *devices)}.values())
        for recipient in recipients:
            record.add_recipient(recipient)
        dealt: dict[int, DealtKey] = {}
        progress(0, len(devices))
        for index, sealed in dealing:
            record.add_share(plan.server, sealed.key.key_id, sealed.server_file)
            record.add_share(devices[index], sealed.key.key_id, sealed.device_file)
            dealt[index] = DealtKey(sealed.key, server=plan.server.id, device=devices[index].id)
            progress(len(dealt), len(devices))
        keys = [dealt[index] for index in range(len(devices))]
        _refuse_shared_factors(keys)
        origin = Origin(kind, terms.ceremony_id, terms.rp_id, terms.not_after, plan.parameters)
        return record.close(origin, plan.attendance, recipients, keys)


def _refuse_shared_factors(keys: Sequence[DealtKey]) -> None:
    """A generator that repeats itself shows here, and only here (Heninger et al., USENIX Security 2012)."""
    if shared_factors([dealt.key.modulus for dealt in keys]):
        raise Refusal(
            "shared_factor",
            "two of the keys share a prime: this machine's random numbers repeat; do not use it or any key made on it",
        )

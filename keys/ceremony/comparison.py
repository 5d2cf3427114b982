"""The comparison of fingerprints, the one step that shows an exchanged file. A ceremony does not go on without it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from keys.ceremony.recipients import RecipientFile
from keys.refusal import Refusal
from keys.terminal import confirmed, is_attended, tell
from mpc.threshold_rsa.share_package import Role

NOT_COMPARED = "not compared"
_AT_THE_TERMINAL = "confirmed at the terminal"


@dataclass(frozen=True, slots=True)
class Expectation:
    """A fingerprint that a holder read out. stem: the file that must have it, without its ending; None: any file."""

    fingerprint: str
    stem: str | None = None

    def __str__(self) -> str:
        return self.fingerprint if self.stem is None else f"{self.stem}={self.fingerprint}"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the operator said beforehand. Without either, somebody at a terminal is asked."""

    expected: frozenset[Expectation]
    waived: bool


def compare_recipients(files: Sequence[RecipientFile], comparison: Comparison, *, names_decide: bool = False) -> str:
    """Show whom the halves are sealed to, and have it compared; how that was done, for the manifest.

    names_decide: which key a device gets follows from the name of its file, which whoever carries the files can change;
    its fingerprint must then be expected under that name.

    Raises Refusal: "unexpected_recipient", "unnamed_expectation", "unmet_expectation", "not_compared", "not_confirmed".
    """
    tell("recipients, to be compared with what their holders read out:")
    for file in files:
        tell(f"  {file.name}: {file.recipient.fingerprint}  {file.recipient.role} {file.recipient.name}")
    if comparison.expected:
        _refuse_unexpected(files, comparison.expected, names_decide=names_decide)
        return "with given fingerprints"
    if comparison.waived:
        return NOT_COMPARED
    question = "Did the holders read out exactly these?"
    if names_decide:
        question = "Did the holders of these names read out exactly these?"
    _refuse_unless_confirmed(
        question, "give every fingerprint with --expect, or --not-compared, which the manifest says"
    )
    return _AT_THE_TERMINAL


def compare_signer(fingerprint: str, expected: str | None) -> str:
    """Have the key that signed a manifest compared, once the fingerprint given beforehand, if any, was checked.

    Raises Refusal: "not_compared", "not_confirmed".
    """
    if expected is not None:
        return "with a given fingerprint"
    tell("the manifest is signed with this key, to be compared with what the witnesses wrote down:")
    tell(f"  {fingerprint}")
    _refuse_unless_confirmed("Did the witnesses write down exactly this?", "give it with --ceremony-key-fingerprint")
    return _AT_THE_TERMINAL


def _refuse_unless_confirmed(question: str, instead: str) -> None:
    if not is_attended():
        raise Refusal("not_compared", f"nobody can be asked here whether these fingerprints are right: {instead}")
    if not confirmed(question):
        raise Refusal("not_confirmed", "nothing was made: the fingerprints were not confirmed")


def _refuse_unexpected(files: Iterable[RecipientFile], expected: frozenset[Expectation], *, names_decide: bool) -> None:
    unmet = set(expected)
    for file in files:
        fingerprint = file.recipient.fingerprint
        by_name, by_set = Expectation(fingerprint, file.stem), Expectation(fingerprint)
        if by_name not in expected and by_set not in expected:
            raise Refusal(
                "unexpected_recipient",
                f"{file.name}, the recipient {file.recipient.name}, has the fingerprint {fingerprint}, which is not "
                "expected of it: it is not what the holder made",
            )
        if names_decide and file.recipient.role is Role.DEVICE and by_name not in expected:
            raise Refusal(
                "unnamed_expectation",
                f"give --expect with the name of the file, {by_name}: the name decides which key this device gets",
            )
        unmet -= {by_name, by_set}
    if unmet:
        raise Refusal("unmet_expectation", f"no recipient file here has {min(map(str, unmet))}: one is missing")

"""What an operator's provisioning command refuses, in sentences for the operator."""

from __future__ import annotations

from typing import Literal

Reason = Literal[
    "untrusted_ceremony",
    "other_server",
    "unknown_recipient",
    "retired_recipient",
    "weak_passphrase",
    "rp_not_allowed",
    "expired",
    "unknown_enrolment",
    "enrolment_not_usable",
    "bad_share",
    "stale_revision",
    "other_manifest",
    "broken_chain",
    "revoked_ceremony",
    "other_keys",
    "other_signer",
    "other_credential",
    "changed_key",
    "key_in_use",
    "too_many_keys",
    "not_a_key_list",
    "unknown_key",
    "unknown_ceremony",
]


class ProvisioningRefused(Exception):
    """A provisioning command did nothing; the text says why and what to do.

    `reason` is stable, for programs and tests. The text may name ids and fingerprints, which are public, and never
    holds a secret or a text that a stranger chose.
    """

    def __init__(self, reason: Reason, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason

"""The FIDO metadata statement of the authenticator that this server and its devices are together.

FIDO Metadata Statement 3.0, with the words of the FIDO Registry of Predefined Values. It says what is known and
nothing better; docs/attestation.md tells why each member is as it is.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from mpc.login.authenticator_data import AAGUID
from mpc.login.authenticator_info import VERSIONS, information
from mpc.login.profile import Profile
from mpc.login.published_profiles import MEASUREMENTS, PUBLISHED
from mpc.login.user_verification import verification_method

from ..attestation_certificates import AttestationAuthority
from ..policy import Limits, Policy

DESCRIPTION: Final = "Tandem two-party authenticator"
METHODS: Final = ("fingerprint_internal", "voiceprint_internal", "faceprint_internal", "eyeprint_internal",
                  "handprint_internal")  # fmt: skip
"""Those of the registry that are biometric and happen inside the authenticator."""
UNVERIFIED: Final = "none"
_LEGAL_HEADER: Final = "Published by the operator of this authenticator; neither submitted to nor certified by FIDO."
_MAX_DESCRIPTION_CHARACTERS: Final = 200
_UPV: Final = {"FIDO_2_0": (1, 0), "FIDO_2_1": (1, 1)}
_MAX_SECONDS: Final = 65_535


def metadata_statement(
    policy: Policy,
    authority: AttestationAuthority,
    *,
    description: str = DESCRIPTION,
    methods: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The statement as JSON values. methods: by profile, what profiles measure of which that is not known here.

    Raises ValueError for a description that is not 1 to 200 ASCII characters, an unknown profile or method.
    """
    if not (
        0 < len(description) <= _MAX_DESCRIPTION_CHARACTERS and description.isascii() and description.isprintable()
    ):
        raise ValueError(f"description: 1 to {_MAX_DESCRIPTION_CHARACTERS} printable ASCII characters")
    return {
        "legalHeader": _LEGAL_HEADER,
        "aaguid": str(UUID(bytes=AAGUID)),
        "description": description,
        "authenticatorVersion": 1,
        "protocolFamily": "fido2",
        "schema": 3,
        "upv": [dict(zip(("major", "minor"), _UPV[version], strict=True)) for version in VERSIONS],
        "authenticationAlgorithms": ["rsassa_pkcsv15_sha256_raw", "rsassa_pss_sha256_raw"],
        "publicKeyAlgAndEncodings": ["cose"],
        # Self attestation proves nothing of the make, so no relying party should take it for this statement's.
        "attestationTypes": ["basic_full"],
        "userVerificationDetails": _user_verification(policy, methods or {}),
        "keyProtection": ["software"],
        "isKeyRestricted": False,
        "isFreshUserVerificationRequired": True,
        "matcherProtection": ["software"],
        "cryptoStrength": 112,
        "attachmentHint": ["internal"],
        "tcDisplay": [],
        "attestationRootCertificates": [base64.b64encode(authority.root_der).decode("ascii")],
        "authenticatorGetInfo": information(),
    }


def unverified_profiles(policy: Policy, methods: Mapping[str, str]) -> list[str]:
    """Profiles served of which nobody says what they measure: simulated ones, and an operator's own."""
    return sorted(name for name, each in policy.profiles.items() if _method(each, methods) == UNVERIFIED)


def _user_verification(policy: Policy, methods: Mapping[str, str]) -> list[list[dict[str, Any]]]:
    if unknown := sorted(set(methods) - set(policy.profiles)):
        raise ValueError(f"method: this server serves no profile {unknown[0]}")
    if wrong := sorted(set(methods.values()) - set(METHODS)):
        raise ValueError(f"method: {wrong[0]} is none of {', '.join(METHODS)}")
    if known := sorted(name for name, told in methods.items() if _method(policy.profiles[name], methods) != told):
        raise ValueError(f"method: what {known[0]} measures is known from its encoder")
    found: list[list[dict[str, Any]]] = []
    for _, profile in sorted(policy.profiles.items()):
        combination = [_descriptor(profile, _method(profile, methods), policy.limits)]
        if combination not in found:
            found.append(combination)
    return found


def _method(profile: Profile, methods: Mapping[str, str]) -> str:
    known = verification_method(profile)
    if known is not None:
        # The registry's word is the name of its constant in lower case.
        return str(known.method.name).lower()
    return methods.get(profile.name, UNVERIFIED)


def _descriptor(profile: Profile, method: str, limits: Limits) -> dict[str, Any]:
    if method == UNVERIFIED:
        return {"userVerificationMethod": method}
    accuracy = {
        **_measured(profile),
        "maxTemplates": profile.max_templates,
        "maxRetries": limits.consecutive_before_delay,
        "blockSlowdown": min(limits.first_delay_s, _MAX_SECONDS),
    }
    return {"userVerificationMethod": method, "baDesc": accuracy}


def _measured(profile: Profile) -> dict[str, float]:
    """The bounds of both rates; nothing where no real person was measured."""
    published, measurement = PUBLISHED.get(profile.name), MEASUREMENTS.get(profile.measured)
    if published is None or measurement is None or measurement.simulated:
        return {}
    accepts = {"selfAttestedFAR": _rounded_up(measurement.false_accept_bound)}
    if profile != published:  # a stricter rule, which refuses more genuine captures than were measured
        return accepts
    return {"selfAttestedFRR": _rounded_up(measurement.false_reject_bound), **accepts}


def _rounded_up(rate: float) -> float:
    """To two digits, and never to a better rate."""
    text = f"{rate:.1e}"
    if float(text) < rate:
        digits, exponent = text.split("e")
        text = f"{float(digits) + 0.1:.1f}e{exponent}"
    return float(text)

"""The profiles that Tandem publishes, with what was measured of them. docs/accuracy.md tells the whole of it.

A server may serve one with a stricter rule, never with a more lenient one: the name and the measurement stand for
what was measured. Devices compare the digest of the measurement, which is a field of the profile. The thresholds for
several templates follow from the one for a single template by `device_sdk.biometrics.template_thresholds`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from mpc.login.measurement import Measurement
from mpc.login.profile import Profile

_FACE_2048: Final = Measurement(
    data="ORL Database of Faces, subjects 1 to 20, pictures 1-3 enrolled and 4-10 tried; constants two-fold by subject",
    simulated=False,
    subjects=20,
    genuine_tries=140,
    false_rejects=3,
    impostor_tries=2_660,
    false_accepts=0,
    failures_to_capture=0,
    crafted_tries=10_040,
    crafted_accepts=0,
)

_IRIS_DATA: Final = "SIMULATED irises, 400 eyes, 3 captures enrolled and 5 tried; crafted probes against 200 of them"
_IRIS_2048: Final = Measurement(
    data=_IRIS_DATA,
    simulated=True,
    subjects=400,
    genuine_tries=2_000,
    false_rejects=1,
    impostor_tries=159_600,
    false_accepts=0,
    failures_to_capture=0,
    crafted_tries=92_600,
    crafted_accepts=0,
)
_IRIS_4096: Final = replace(_IRIS_2048, false_rejects=6)


def _iris(code_bits: int) -> Profile:
    return Profile(
        name=f"iris-{code_bits}",
        code_bits=code_bits,
        threshold=0,
        encoder_id=f"openiris-16x200x2-v1/{code_bits}",
        masked=True,
        min_valid=3 * code_bits // 4,
        ratio_numerator=78,
        ratio_shift=8,
        version=1,
        columns=64,
        rotation=2,
        thresholds=(78, 76),  # two eyes
    )


_MEASURED: Final = (
    (
        Profile(
            name="face-2048",
            code_bits=2048,
            threshold=583,
            encoder_id="dlib-face-v1/a5ff97a3ca988bfb",
            version=1,
            thresholds=(583, 563, 552),
        ),
        _FACE_2048,
    ),
    (_iris(2048), _IRIS_2048),
    (_iris(4096), _IRIS_4096),
)

PUBLISHED: Final[Mapping[str, Profile]] = MappingProxyType(
    {profile.name: replace(profile, measured=measurement.digest) for profile, measurement in _MEASURED}
)
"""By name."""

MEASUREMENTS: Final[Mapping[str, Measurement]] = MappingProxyType(
    {measurement.digest: measurement for _, measurement in _MEASURED}
)
"""By digest, as a profile's `measured` names it."""

"""The policy that use cases follow: profiles, relying parties, limits. Built once from the settings and never
changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from mpc.login.profile import Profile

DAY_S = 86_400.0

AttestationScope = Literal["all", "provisioned", "off"]
"""All keys, those that were dealt in a ceremony, or none. A device that made a key itself has held it whole."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Attempt limits (NIST SP 800-63B-4, section 3.2.3), query budgets, lifetimes, request rates. Times in seconds."""

    consecutive_before_delay: int = 5
    """Unconfirmed attempts in a row that are answered without waiting."""
    first_delay_s: int = 30
    """The wait before the next attempt; it doubles with each further one."""
    max_delay_s: int = 3600
    consecutive_before_disabled: int = 50
    """Unconfirmed attempts in a row after which only the operator helps."""
    unconfirmed_per_30_days: int = 100
    attempts_per_day: int = 200
    """Attempts of any outcome in 24 hours."""
    attempts_per_template: int = 5000
    max_credentials_per_enrolment: int = 64
    freshness_s: int = 60
    """How far a request's `created` may be from this server's clock, either way."""
    enrolment_code_lifetime_s: int = 86_400
    recovery_code_lifetime_s: int = 86_400
    enrolment_code_attempts: int = 10
    """Starts of an enrolment or a recovery that may name one code."""
    address_requests_per_s: float = 50.0
    """What an address regains; 0 switches its limit off. It may be a company's, or a telephone network's."""
    address_burst: int = 1000
    enrolment_requests_per_s: float = 10.0
    """What an enrolment regains, and once more for its confirmations; 0 switches both limits off."""
    enrolment_burst: int = 2000
    """A device takes up to 1,000 provisioned keys in a row, with two requests each."""
    wrong_codes_per_hour: int = 30
    """One-time codes that an address may name in vain; 0 switches the limit off."""

    def delay_s(self, consecutive_failures: int) -> float:
        """How long after the last attempt the next one may come, given the unconfirmed attempts in a row so
        far.
        """
        over = consecutive_failures - self.consecutive_before_delay
        if over < 0:
            return 0.0
        # The exponent is capped before it is used: the counter has no upper bound here.
        return float(min(self.max_delay_s, self.first_delay_s << min(over, 24)))


@dataclass(frozen=True, slots=True)
class Policy:
    """What this server serves, to whom, and how often."""

    server_id: str
    """Bound into every session id; devices pin it at enrolment."""
    profiles: Mapping[str, Profile]
    allowed_rp_ids: frozenset[str]
    limits: Limits
    ceremony_keys: frozenset[str] = frozenset()
    """Fingerprints of ceremony keys whose manifests are imported without asking."""
    provisioned_only_rp_ids: frozenset[str] = frozenset()
    """Relying parties for which a device may not make a key of its own."""
    added_templates_need_code: bool = False
    """Whether adding a template takes an operator's code besides the match."""
    attestation: AttestationScope = "all"
    """Which keys this server's attestation authority attests, if there is one."""

    def profile_of(self, name: str, templates: int | None) -> Profile | None:
        """The profile of an enrolment bound to `name` that has so many templates (None: as many as it began with).

        None if it is not served, or has no threshold for them.
        """
        profile = self.profiles.get(name)
        if profile is None or templates is None or templates == profile.templates:
            return profile
        return profile.with_templates(templates) if templates in profile.template_counts else None

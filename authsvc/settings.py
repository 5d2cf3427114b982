"""Settings: the one place that reads the environment and the policy file.

Every setting can come from an environment variable `TANDEM_NAME` (nested ones as
`TANDEM_LIMITS__ATTEMPTS_PER_DAY`) or from the TOML file that `TANDEM_POLICY_FILE` names; the environment
wins. `policy()` and `key_wrappers()` turn them into what is passed down.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import itertools
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from mpc.login.profile import Profile
from mpc.login.published_profiles import PUBLISHED
from mpc.provisioning.signed_document import normal_fingerprint

from .key_port.command import CommandKeyWrapper
from .key_port.pkcs11_token import Pkcs11KeyWrapper
from .key_port.port import KeyWrapper
from .key_port.raw_key import KEK_BYTES, RawKeyWrapper
from .logs import LogLevel
from .policy import AttestationScope, Limits, Policy
from .store.sqlite import sqlite_url

POLICY_FILE_VARIABLE = "TANDEM_POLICY_FILE"


class SettingsError(Exception):
    """A setting or one of its files is wrong. The text says which and what to do; it is meant for the
    operator.
    """


class ProfileSettings(BaseModel):
    """One `[profiles.NAME]` table. Masked profiles leave `threshold` out and give the other three numbers.

    Under the name of a published profile, what is left out is as published, and only a stricter rule may be given.
    `thresholds` left out with a stricter number go down with it, and all by as much: the further out, the more a step
    takes away, so several templates together still match strangers no more often than one.
    """

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    code_bits: int = 0
    threshold: int = 0
    encoder_id: str = "binary-code-v1"
    templates: int = 1
    masked: bool = False
    min_valid: int = 0
    ratio_numerator: int = 0
    ratio_shift: int = 0
    columns: int = 0
    rotation: int = 0
    thresholds: list[int] = []

    def profile(self, name: str) -> Profile:
        """Raises ValueError for one that makes no sense, or loosens a published one."""
        published = PUBLISHED.get(name)
        if published is None:
            return Profile.from_dict({"name": name, **self.model_dump()})
        given = self.model_dump(exclude_unset=True)
        if "thresholds" not in given:
            number = "ratio_numerator" if published.masked else "threshold"
            step = getattr(published, number) - given.get(number, getattr(published, number))
            given["thresholds"] = [each - step for each in published.thresholds]
        profile = Profile.from_dict({**published.as_dict(), **given})
        if profile != published and not profile.tightens(published):
            raise ValueError("is published: its rule may be made stricter and nothing else changed; take another name")
        return profile


class LimitSettings(BaseModel):
    """The `[limits]` table; see `authsvc.policy.Limits` for what each means. Times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    consecutive_before_delay: int = Field(default=5, ge=1, le=100)
    first_delay_s: int = Field(default=30, ge=30, le=86_400)
    max_delay_s: int = Field(default=3600, ge=30, le=7 * 86_400)
    consecutive_before_disabled: int = Field(default=50, ge=1, le=100)
    unconfirmed_per_30_days: int = Field(default=100, ge=1, le=100_000)
    attempts_per_day: int = Field(default=200, ge=1, le=100_000)
    attempts_per_template: int = Field(default=5000, ge=1, le=10_000_000)
    max_credentials_per_enrolment: int = Field(default=64, ge=1, le=10_000)
    freshness_s: int = Field(default=60, ge=5, le=600)
    enrolment_code_lifetime_s: int = Field(default=86_400, ge=60, le=30 * 86_400)
    recovery_code_lifetime_s: int = Field(default=86_400, ge=60, le=30 * 86_400)
    enrolment_code_attempts: int = Field(default=10, ge=2, le=1000)
    address_requests_per_s: float = Field(default=50.0, ge=0, le=100_000, allow_inf_nan=False)
    address_burst: int = Field(default=1000, ge=1, le=1_000_000)
    enrolment_requests_per_s: float = Field(default=10.0, ge=0, le=100_000, allow_inf_nan=False)
    enrolment_burst: int = Field(default=2000, ge=1, le=1_000_000)
    wrong_codes_per_hour: int = Field(default=30, ge=0, le=100_000)

    @model_validator(mode="after")
    def _ordered(self) -> LimitSettings:
        if self.max_delay_s < self.first_delay_s:
            raise ValueError("max_delay_s must not be below first_delay_s")
        for name in ("address_requests_per_s", "enrolment_requests_per_s"):
            if 0 < getattr(self, name) < 0.001:
                raise ValueError(f"{name} must be 0 (off) or at least 0.001")
        if self.consecutive_before_disabled < self.consecutive_before_delay:
            raise ValueError("consecutive_before_disabled must not be below consecutive_before_delay")
        return self


class Pkcs11Settings(BaseModel):
    """A `[kek_pkcs11]` table: an AES key in a token."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    module: Path
    """The token's library."""
    token: str = Field(min_length=1, max_length=32)
    """The token's label."""
    key: str = Field(min_length=1, max_length=200)
    """The key's label."""
    pin_file: Path
    """Its first line is the user's PIN; mode 0600."""

    def load_pin(self) -> str:
        """SettingsError."""
        try:
            pin = _read_secret(self.pin_file, "pin_file").decode("utf-8").split("\n", 1)[0].rstrip("\r")
        except UnicodeDecodeError:
            raise SettingsError(f"pin_file: {self.pin_file} does not hold text") from None
        if not pin:
            raise SettingsError(f"pin_file: {self.pin_file} holds no PIN in its first line")
        return pin

    def wrapper(self) -> KeyWrapper:
        """Raises SettingsError, KeyUnavailable."""
        return Pkcs11KeyWrapper(self.module, self.token, self.key, self.load_pin())


class CommandSettings(BaseModel):
    """A `[kek_command]` table: a command that asks an external key service."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    argv: list[str] = Field(min_length=1, max_length=50)
    limit_s: float = Field(default=3.0, ge=0.1, le=4.0)
    """For one operation. Below the time after which PostgreSQL ends a transaction that waits for it."""

    @field_validator("argv")
    @classmethod
    def _absolute(cls, values: list[str]) -> list[str]:
        if not Path(values[0]).is_absolute():
            raise ValueError("must begin with a program by its absolute path")
        return values

    def wrapper(self) -> KeyWrapper:
        """Raises KeyUnavailable."""
        return CommandKeyWrapper(self.argv, self.limit_s)


class PreviousKek(BaseModel):
    """An entry of `kek_previous`: one of the four ways to name a key-encryption key."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    file: Path | None = None
    key: SecretStr | None = None
    pkcs11: Pkcs11Settings | None = None
    command: CommandSettings | None = None

    @model_validator(mode="after")
    def _one(self) -> PreviousKek:
        if sum(each is not None for each in (self.file, self.key, self.pkcs11, self.command)) != 1:
            raise ValueError("each entry needs exactly one of file, key, pkcs11 and command")
        return self

    def wrapper(self) -> KeyWrapper:
        """Raises SettingsError, KeyUnavailable."""
        if self.file is not None:
            return RawKeyWrapper(_kek_bytes(_read_secret(self.file, "kek_previous"), "kek_previous", self.file))
        if self.key is not None:
            return RawKeyWrapper(_kek_from_base64(self.key, "kek_previous"))
        place = self.pkcs11 or self.command
        assert place is not None
        return place.wrapper()


def _default_profiles() -> dict[str, ProfileSettings]:
    # 0.32: strangers 6e-9, the worst crafted probe found 3e-6, genuine captures refused 0 of 20,000 (docs/encoders.md).
    by_templates = {512: [163, 160, 158], 1024: [327, 321, 317], 2048: [655, 643, 636], 4096: [1310, 1286, 1272]}
    plain = {
        f"sim-{n}": ProfileSettings(code_bits=n, threshold=one[0], thresholds=one) for n, one in by_templates.items()
    }
    masked = ProfileSettings(
        code_bits=2048, masked=True, min_valid=1536, ratio_numerator=82, ratio_shift=8, thresholds=[82, 80, 78]
    )
    return {**plain, "sim-2048-masked": masked, **{name: ProfileSettings() for name in PUBLISHED}}


def _default_threads(workers: int) -> int:
    # Two for each of the process's processors, since a thread that commits or waits for its turn computes nothing.
    return min(32, -(-2 * (os.cpu_count() or 1) // workers) + 2)


class Settings(BaseSettings):
    """Everything an operator can set. Relative paths are relative to the working directory."""

    model_config = SettingsConfigDict(
        env_prefix="TANDEM_",
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
    )

    server_id: str = Field(default="tandem", pattern=r"^[!-~]{1,200}$")
    data_dir: Path = Path("tandem-data")
    database_path: Path | None = None
    database_url: str | None = None
    kek_file: Path | None = None
    kek: SecretStr | None = None
    kek_pkcs11: Pkcs11Settings | None = None
    kek_command: CommandSettings | None = None
    kek_previous: list[PreviousKek] = Field(default=[], max_length=10)
    profiles: dict[str, ProfileSettings] = Field(default_factory=_default_profiles, min_length=1)
    allowed_rp_ids: list[str] = Field(default_factory=lambda: ["localhost"])
    provisioned_only_rp_ids: list[str] = []
    ceremony_keys: list[str] = []
    added_templates_need_code: bool = False
    attestation: AttestationScope = "all"
    """Which keys the attestation authority attests, once `authsvc attestation init` has made it."""
    limits: LimitSettings = LimitSettings()
    host: str = "127.0.0.1"
    port: int = Field(default=8443, ge=0, le=65535)
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    workers: int = Field(1, ge=1, le=256)
    """Processes that serve; the numbers below are for each of them."""
    console: bool = True
    """Whether the web console is served, under /console."""
    max_connections: int = Field(512, ge=1, le=65536)
    """Connections served at once; beyond it 503. Bounds what unauthenticated bodies can hold in memory."""
    max_queued: int = Field(64, ge=1, le=65536)
    """Requests of devices that have a worker thread or wait for one, and the same number of others; beyond it 503."""
    head_timeout_s: float = Field(10.0, ge=0.1, le=3600)
    body_timeout_s: float = Field(30.0, ge=0.1, le=3600)
    audit_checkpoint_s: int = Field(30, ge=1, le=86_400)
    """How often the events since the last checkpoint are signed."""
    trusted_proxies: list[str] = []
    """Addresses and networks whose X-Forwarded-For is believed."""
    proxies_reencrypt: bool = False
    """Says that each of them opens TLS and encrypts again, where `tls_cert_file` has it end in this process too."""
    log_level: LogLevel = "info"
    log_addresses: bool = False
    tracing: bool = False
    worker_threads: int = Field(default_factory=lambda given: _default_threads(given.get("workers", 1)), ge=1, le=256)

    @field_validator("allowed_rp_ids")
    @classmethod
    def _exact_rp_ids(cls, values: list[str]) -> list[str]:
        for value in values:
            if (
                not value
                or value != value.lower()
                or not value.isascii()
                or len(value) > 253
                or set(value) & set("/:*@ ")
            ):
                raise ValueError(
                    "each must be a bare lower-case domain name, as in a relying party's rpId; no wildcards"
                )
        return values

    @field_validator("ceremony_keys")
    @classmethod
    def _fingerprints(cls, values: list[str]) -> list[str]:
        return [normal_fingerprint(value) for value in values]

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, values: list[str]) -> list[str]:
        for value in values:
            try:
                ipaddress.ip_network(value)
            except ValueError:
                raise ValueError("each must be an IP address or a network such as 10.0.0.0/8") from None
        return values

    @model_validator(mode="after")
    def _consistent(self) -> Settings:
        for one, other in (
            ("database_path", "database_url"),
            *itertools.combinations(("kek", "kek_file", "kek_pkcs11", "kek_command"), 2),
        ):
            if getattr(self, one) is not None and getattr(self, other) is not None:
                raise ValueError(f"set {one} or {other}, not both")
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file belong together")
        if self.trusted_proxies and self.tls_cert_file is not None and not self.proxies_reencrypt:
            # What passes TCP through cannot write a header: whatever X-Forwarded-For comes from there is a client's.
            raise ValueError(
                "trusted_proxies with tls_cert_file: name only proxies that open TLS and encrypt again, and say so with"
                " proxies_reencrypt = true; never name a balancer that passes TCP through"
            )
        if not set(self.provisioned_only_rp_ids) <= set(self.allowed_rp_ids):
            # A misspelt name would leave the relying party that was meant open to keys of the devices' own.
            raise ValueError("provisioned_only_rp_ids: each must also be in allowed_rp_ids")
        if self.database_url is not None:
            try:
                backend = make_url(self.database_url).get_backend_name()
            except (ArgumentError, ValueError):
                raise ValueError("database_url: not a database URL") from None
            if backend not in ("sqlite", "postgresql"):
                raise ValueError("database_url: must begin with sqlite:// or postgresql://")
        for name, fields in self.profiles.items():
            try:
                fields.profile(name)
            except ValueError as error:
                raise ValueError(f"profiles.{name[:40]}: {error}") from None
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then the environment, then the policy file."""
        sources: tuple[PydanticBaseSettingsSource, ...] = (init_settings, env_settings)
        if policy_file := os.environ.get(POLICY_FILE_VARIABLE):
            if not Path(policy_file).is_file():
                raise SettingsError(f"{POLICY_FILE_VARIABLE}: there is no file {policy_file}")
            try:
                sources += (TomlConfigSettingsSource(settings_cls, toml_file=policy_file),)
            except (ValueError, OSError) as error:
                raise SettingsError(
                    f"{POLICY_FILE_VARIABLE}: {policy_file} is not readable as TOML: {error}"
                ) from error
        return sources

    def database(self) -> URL:
        """Where the database is; `data_dir/authsvc.db` unless set."""
        if self.database_url is not None:
            return make_url(self.database_url)
        return sqlite_url(self.database_path or self.data_dir / "authsvc.db")

    def policy(self) -> Policy:
        """The policy for the use cases."""
        return Policy(
            server_id=self.server_id,
            profiles={name: fields.profile(name) for name, fields in self.profiles.items()},
            allowed_rp_ids=frozenset(self.allowed_rp_ids),
            limits=Limits(**self.limits.model_dump()),
            ceremony_keys=frozenset(self.ceremony_keys),
            provisioned_only_rp_ids=frozenset(self.provisioned_only_rp_ids),
            added_templates_need_code=self.added_templates_need_code,
            attestation=self.attestation,
        )

    def load_kek(self) -> bytes:
        """The 32-byte key-encryption key: from the setting, or its file, which is made at the first start.

        Losing this file makes every share in the database useless; see to a backup apart from the database's.
        SettingsError.
        """
        if self.kek is not None:
            return _kek_from_base64(self.kek, "kek")
        path = self.kek_file or self.data_dir / "kek"
        return _kek_bytes(_read_or_create(path, secrets.token_bytes(KEK_BYTES), "kek_file"), "kek_file", path)

    def key_wrappers(self) -> list[KeyWrapper]:
        """The key-encryption keys: the one that is to be current, then the previous ones.

        Raises SettingsError; KeyUnavailable if a token or command does not answer.
        """
        place = self.kek_pkcs11 or self.kek_command
        first = RawKeyWrapper(self.load_kek()) if place is None else place.wrapper()
        return [first, *(previous.wrapper() for previous in self.kek_previous)]

    def as_table(self) -> dict[str, Any]:
        """The effective settings as plain values, with secrets hidden."""
        values: dict[str, Any] = self.model_dump(mode="json")
        values["kek"] = "(hidden)" if values["kek"] is not None else None
        for previous in values["kek_previous"]:
            previous["key"] = "(hidden)" if previous["key"] is not None else None
        # A URL may carry a password.
        url = self.database()
        shown = {name: "***" if "pass" in name else value for name, value in url.query.items()}
        values["database_url"] = url.set(query=shown).render_as_string(hide_password=True)
        return values


def load_settings(**overrides: Any) -> Settings:
    """The settings from environment and policy file; SettingsError names each setting that is wrong."""
    try:
        return Settings(**overrides)
    except ValidationError as error:
        problems = []
        for item in error.errors(include_input=False, include_url=False, include_context=False):
            name = ".".join(str(part) for part in item["loc"])
            problems.append(f"{name}: {item['msg']}" if name else item["msg"])
        raise SettingsError("wrong settings:\n  " + "\n  ".join(problems)) from None
    except ValueError as error:  # values that are not even JSON where JSON is needed
        raise SettingsError(f"wrong settings: {error}") from None


def ensure_data_dir(settings: Settings) -> None:
    """Make the data directory, for its owner alone, if it does not exist. SettingsError."""
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SettingsError(f"data_dir: cannot make {settings.data_dir}: {error.strerror}") from error


def _kek_from_base64(text: SecretStr, setting: str) -> bytes:
    try:
        kek = base64.b64decode(text.get_secret_value(), validate=True)
    except (binascii.Error, ValueError):
        raise SettingsError(f"{setting}: not base64") from None
    if len(kek) != KEK_BYTES:
        raise SettingsError(f"{setting}: must be {KEK_BYTES} bytes in base64")
    return kek


def _kek_bytes(content: bytes, setting: str, path: Path) -> bytes:
    if len(content) != KEK_BYTES:
        raise SettingsError(f"{setting}: {path} must hold exactly {KEK_BYTES} bytes; restore it from its backup")
    return content


def _read_or_create(path: Path, fresh: bytes, setting: str) -> bytes:
    """The content of a secret file; `fresh` is written first if there is no such file."""
    try:
        # O_EXCL: of two processes that start at once, one writes, and a planted file or link is never written
        # to. The content goes to a private name first, so that the other process never reads half of it.
        if not os.path.lexists(path):
            temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    file.write(fresh)
                    file.flush()
                    os.fsync(file.fileno())
                with suppress(FileExistsError):
                    os.link(temporary, path)
            finally:
                os.unlink(temporary)
            directory = os.open(path.parent, os.O_RDONLY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
    except OSError as error:
        raise SettingsError(f"{setting}: cannot use {path}: {error.strerror}") from error
    return _read_secret(path, setting)


def _read_secret(path: Path, setting: str) -> bytes:
    """The content of a file that its owner alone can read. SettingsError."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(file.fileno())
            if not stat.S_ISREG(status.st_mode):
                raise SettingsError(f"{setting}: {path} is not a regular file")
            if status.st_mode & (stat.S_IRWXG | stat.S_IRWXO):
                raise SettingsError(f"{setting}: {path} can be read by others than its owner; run chmod 600 {path}")
            return file.read(4096)
    except OSError as error:
        raise SettingsError(f"{setting}: cannot use {path}: {error.strerror}") from error

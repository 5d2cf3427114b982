"""What an operator can set, and how the server says what is wrong with it."""

from __future__ import annotations

import base64
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from authsvc.policy import Limits
from authsvc.settings import Settings, SettingsError, ensure_data_dir, load_settings
from mpc.login.published_profiles import PUBLISHED


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("TANDEM_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("TANDEM_DATA_DIR", str(tmp_path / "data"))


def loaded() -> Settings:
    settings = load_settings()
    ensure_data_dir(settings)
    return settings


def test_the_defaults_are_the_documented_ones() -> None:
    policy = load_settings().policy()

    assert {(p.name, p.code_bits, p.threshold) for p in policy.profiles.values() if not p.masked} == {
        ("sim-512", 512, 163),
        ("sim-1024", 1024, 327),
        ("sim-2048", 2048, 655),
        ("sim-4096", 4096, 1310),
        ("face-2048", 2048, 583),
    }
    masked = policy.profiles["sim-2048-masked"]
    assert (masked.min_valid, masked.ratio_numerator, masked.ratio_shift) == (1536, 82, 8)
    assert policy.allowed_rp_ids == {"localhost"}
    assert policy.limits == Limits()


def test_the_environment_wins_over_the_policy_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    policy_file = tmp_path / "policy.toml"
    policy_file.write_text(
        'server_id = "auth.example"\nallowed_rp_ids = ["example.com"]\n'
        "[limits]\nattempts_per_day = 20\nfreshness_s = 30\n"
        '[profiles.own-2048]\ncode_bits = 2048\nthreshold = 650\nencoder_id = "iris-v3"\n'
    )
    monkeypatch.setenv("TANDEM_POLICY_FILE", str(policy_file))
    monkeypatch.setenv("TANDEM_LIMITS__ATTEMPTS_PER_DAY", "40")

    policy = load_settings().policy()

    assert policy.server_id == "auth.example"
    assert policy.allowed_rp_ids == {"example.com"}
    assert (policy.limits.attempts_per_day, policy.limits.freshness_s) == (40, 30)
    assert set(policy.profiles) == {"own-2048"}


def test_a_published_profile_may_be_tightened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What is left out stays as published, the measurement too; those for more templates go down with the first."""
    policy_file = tmp_path / "policy.toml"
    policy_file.write_text("[profiles.face-2048]\nthreshold = 560\n")
    monkeypatch.setenv("TANDEM_POLICY_FILE", str(policy_file))

    profile = load_settings().policy().profiles["face-2048"]

    assert profile == replace(PUBLISHED["face-2048"], threshold=560, thresholds=(560, 540, 529))


def test_no_template_is_added_under_a_published_profile_without_thresholds(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An operator who wants none says so; that is stricter, and the rule for one template stays as published."""
    policy_file = tmp_path / "policy.toml"
    policy_file.write_text("[profiles.face-2048]\nthresholds = []\n")
    monkeypatch.setenv("TANDEM_POLICY_FILE", str(policy_file))

    profile = load_settings().policy().profiles["face-2048"]

    assert profile.max_templates == 1 and profile.threshold == 583


@pytest.mark.parametrize(
    "table",
    [
        "threshold = 584",
        "threshold = 560\nencoder_id = 'other'",
        "code_bits = 4096",
        "templates = 2",
        "masked = true",
        "threshold = 560\nthresholds = [560, 564]",
        "thresholds = [583, 563, 552, 544]",
        "thresholds = [583, 570]",
        "templates = 2\nthreshold = 563",
    ],
)
def test_a_published_profile_is_never_loosened(table: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The name stands for what was measured; anything else under it would borrow its error rates."""
    policy_file = tmp_path / "policy.toml"
    policy_file.write_text(f"[profiles.face-2048]\n{table}\n")
    monkeypatch.setenv("TANDEM_POLICY_FILE", str(policy_file))

    with pytest.raises(SettingsError, match=r"profiles\.face-2048"):
        load_settings()


def test_what_is_set_about_provisioning_reaches_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fingerprint is compared as text, so however it was typed it must become the one form."""
    fingerprint = "-".join(["ABCD"] * 8)
    monkeypatch.setenv("TANDEM_ALLOWED_RP_IDS", '["a.example", "b.example"]')
    monkeypatch.setenv("TANDEM_PROVISIONED_ONLY_RP_IDS", '["b.example"]')
    monkeypatch.setenv("TANDEM_CEREMONY_KEYS", f'["{fingerprint.lower().replace("-", " ")}"]')

    policy = load_settings().policy()

    assert policy.ceremony_keys == {fingerprint}
    assert policy.provisioned_only_rp_ids == {"b.example"}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[limits]\nattempts_per_day = 0\n", "limits.attempts_per_day"),
        ("[limits]\nattempts_a_day = 5\n", "limits.attempts_a_day"),
        ("[limits]\nfirst_delay_s = 100\nmax_delay_s = 50\n", "max_delay_s"),
        ("[profiles.p]\ncode_bits = 2048\nthreshold = 1024\n", "profiles.p: threshold"),
        ("[profiles.p]\ncode_bits = 1000\nthreshold = 100\n", "profiles.p: code_bits"),
        ("[profiles.p]\ncode_bits = '2048'\nthreshold = 100\n", "profiles.p.code_bits"),
        ("[profiles.p]\ncode_bits = 2048\nmasked = true\nmin_valid = 100\n", "profiles.p: min_valid"),
        ('allowed_rp_ids = ["*.example.com"]\n', "allowed_rp_ids"),
        ('allowed_rp_ids = ["https://example.com"]\n', "allowed_rp_ids"),
        ('provisioned_only_rp_ids = ["loaclhost"]\n', "provisioned_only_rp_ids"),
        ('ceremony_keys = ["AAAA-BBBB"]\n', "ceremony_keys"),
        ('ceremony_keys = "AAAA"\n', "ceremony_keys"),
        ('server_id = ""\n', "server_id"),
        ('kek = "AAAA"\nkek_file = "kek"\n', "kek or kek_file"),
        ('admin_token = "a token of an older version"\n', "admin_token"),
        ('database_url = "mysql://user:hunter2@db/x"\n', "database_url"),
        ('tls_cert_file = "cert.pem"\n', "tls_key_file"),
        ("surprise = 1\n", "surprise"),
        ("not toml", "TANDEM_POLICY_FILE"),
    ],
)
def test_a_wrong_setting_is_named(text: str, named: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    policy_file = tmp_path / "policy.toml"
    policy_file.write_text(text)
    monkeypatch.setenv("TANDEM_POLICY_FILE", str(policy_file))

    with pytest.raises(SettingsError) as raised:
        load_settings()

    assert named in str(raised.value)
    assert "hunter2" not in str(raised.value)


def test_a_missing_policy_file_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Starting with default limits because of a misspelt path would be worse than not starting."""
    monkeypatch.setenv("TANDEM_POLICY_FILE", str(tmp_path / "polcy.toml"))

    with pytest.raises(SettingsError, match=r"polcy\.toml"):
        load_settings()


def test_the_key_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    settings = loaded()
    previous = os.umask(0)  # the mode must not rest on a kind umask
    try:
        first = settings.load_kek()
    finally:
        os.umask(previous)

    assert len(first) == 32
    assert settings.load_kek() == first
    assert stat.S_IMODE((tmp_path / "data" / "kek").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "data").stat().st_mode) == 0o700
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["kek"]


def test_processes_that_start_together_agree_on_the_key() -> None:
    settings = loaded()

    with ThreadPoolExecutor(16) as pool:
        keys = list(pool.map(lambda _: settings.load_kek(), range(64)))

    assert len(set(keys)) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
def test_a_key_file_that_others_can_read_is_refused(mode: int, tmp_path: Path) -> None:
    settings = loaded()
    settings.load_kek()
    (tmp_path / "data" / "kek").chmod(mode)

    with pytest.raises(SettingsError, match="chmod 600"):
        settings.load_kek()


@pytest.mark.parametrize("content", [b"", bytes(31), bytes(33)])
def test_a_key_file_of_another_length_is_refused_and_left_alone(content: bytes, tmp_path: Path) -> None:
    settings = loaded()
    kek = tmp_path / "data" / "kek"
    kek.touch(mode=0o600)
    kek.write_bytes(content)

    with pytest.raises(SettingsError, match="32 bytes"):
        settings.load_kek()

    assert kek.read_bytes() == content


def test_a_link_in_place_of_the_key_file_is_refused(tmp_path: Path) -> None:
    settings = loaded()
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "data" / "kek").symlink_to(elsewhere)

    with pytest.raises(SettingsError, match="kek_file"):
        settings.load_kek()

    assert not elsewhere.exists()


def test_the_key_can_come_from_a_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kek = os.urandom(32)
    monkeypatch.setenv("TANDEM_KEK", base64.b64encode(kek).decode())

    assert loaded().load_kek() == kek
    assert not (tmp_path / "data" / "kek").exists()


@pytest.mark.parametrize("text", ["AAAA", "not base64!", ""])
def test_a_wrong_key_setting_is_refused_without_repeating_it(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANDEM_KEK", text)

    with pytest.raises(SettingsError, match="kek") as raised:
        load_settings().load_kek()

    assert not text or text not in str(raised.value)


def test_secrets_show_neither_in_the_table_nor_in_the_repr(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = base64.b64encode(os.urandom(32)).decode()
    monkeypatch.setenv("TANDEM_KEK", secret)

    settings = load_settings()
    shown = repr(settings) + str(settings.as_table())

    assert secret not in shown


def test_the_wait_doubles_up_to_the_cap() -> None:
    limits = Limits()

    waits = [limits.delay_s(count) for count in (0, 4, 5, 6, 7, 11, 12, 13, 50, 10**9)]

    assert waits == [0, 0, 30, 60, 120, 1920, 3600, 3600, 3600, 3600]


@pytest.mark.parametrize(
    "url", ["postgresql://user:hunter2@db/x", "postgresql://user@db/x?password=hunter2&sslpassword=hunter2"]
)
def test_a_shown_database_url_has_no_password(url: str) -> None:
    """`authsvc config` is what operators paste into tickets."""
    shown = load_settings(database_url=url).as_table()["database_url"]

    assert "hunter2" not in shown and shown.startswith("postgresql://user")


def test_a_database_url_that_cannot_be_read_is_not_repeated() -> None:
    """Its password is the likeliest part to hold the character that is in the way."""
    with pytest.raises(SettingsError) as caught:
        load_settings(database_url="postgresql://u:p@s:ecret@h/db")

    assert "database_url" in str(caught.value) and "ecret" not in str(caught.value)

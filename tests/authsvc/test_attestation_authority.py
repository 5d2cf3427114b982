"""The attestation authority: certificates as WebAuthn asks for them, keys at rest, renewal, and who is attested."""

from __future__ import annotations

import base64
import json
import math
import pickle
import sqlite3
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from authsvc_dealer import Clock, events
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID, NameOID, ObjectIdentifier
from fido2.mds3 import MetadataStatement
from real_server import process_environment
from typer.testing import CliRunner, Result

from authsvc.attestation_certificates import AttestationAuthority, fingerprint
from authsvc.cli import app
from authsvc.policy import AttestationScope, Policy
from authsvc.sealing import SERVER_OWNER, SealingError
from authsvc.services import attestation, checkpoints
from authsvc.services.attestation import AttestationRefused
from authsvc.services.context import ServiceContext
from authsvc.services.metadata_statement import metadata_statement
from authsvc.settings import Settings
from authsvc.store.credentials import CredentialRow
from authsvc.store.server_state import load_state, put_state
from mpc.errors import DecodeError
from mpc.login.authenticator_data import AAGUID, cose_rsa_key, registration_data
from mpc.login.messages import LoginStatement
from mpc.login.profile import Profile
from mpc.login.published_profiles import PUBLISHED

Run = Callable[..., Result]
DAY = 86_400
OWN = {"country": "DE", "organization": "Beispiel GmbH"}


def made(ctx: ServiceContext, **more: Any) -> AttestationAuthority:
    return attestation.create(ctx, **OWN, **more)


def scoped(ctx: ServiceContext, scope: AttestationScope) -> ServiceContext:
    return replace(ctx, policy=replace(ctx.policy, attestation=scope))


def credential(ceremony_id: bytes | None = None) -> CredentialRow:
    return CredentialRow(
        b"c" * 32, b"e" * 16, "shop.example", -257, b"\xff" * 256, 65537, None, "provisional", 0, 0.0, ceremony_id
    )


def attester(ctx: ServiceContext) -> AttestationAuthority | None:
    with ctx.store.read() as conn:
        return attestation.attester(ctx, conn)


def attests(ctx: ServiceContext, row: CredentialRow) -> bool:
    """Whether a registration of this credential, right in every other way, is attested."""
    vouching = attester(ctx)
    if vouching is None:
        return False
    cose = cose_rsa_key(row.algorithm, int.from_bytes(row.modulus, "big"), row.exponent)
    data = registration_data(row.rp_id, 1, row.id, cose)
    statement = LoginStatement(b"e" * 16, b"o" * 16, b"p" * 32, "create", row.id, 0, 1, data, bytes(32), None, b"", b"")
    profile = ctx.policy.profiles["sim-512"]
    return attestation.attested(vouching, ctx.policy.attestation, row, profile, statement) is not None


def at_most(errors: int, tries: int, rate: float) -> float:
    """The probability of at most so many errors, by adding up the binomial distribution."""
    return sum(math.comb(tries, n) * rate**n * (1 - rate) ** (tries - n) for n in range(errors + 1))


class TestCertificates:
    """WebAuthn Level 3, section 8.2.1, clause by clause, and RFC 5280 for the chain."""

    @pytest.fixture
    def authority(self) -> AttestationAuthority:
        return AttestationAuthority.new("DE", "Beispiel GmbH & Söhne", 1_800_000_000.7)

    def test_the_attestation_certificate(self, authority: AttestationAuthority) -> None:
        certificate = authority.certificate
        assert certificate.version is x509.Version.v3
        named = {attribute.oid: attribute.value for attribute in certificate.subject}
        assert named == {
            NameOID.COUNTRY_NAME: "DE",
            NameOID.ORGANIZATION_NAME: "Beispiel GmbH & Söhne",
            NameOID.ORGANIZATIONAL_UNIT_NAME: "Authenticator Attestation",
            NameOID.COMMON_NAME: "Tandem Attestation",
        }
        constraints = certificate.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS)
        assert isinstance(constraints.value, x509.BasicConstraints) and constraints.value.ca is False
        aaguid = certificate.extensions.get_extension_for_oid(ObjectIdentifier("1.3.6.1.4.1.45724.1.1.4"))
        assert not aaguid.critical
        assert isinstance(aaguid.value, x509.UnrecognizedExtension)
        assert aaguid.value.value == bytes.fromhex("0410") + AAGUID

    def test_the_chain(self, authority: AttestationAuthority) -> None:
        root, certificate = authority.root, authority.certificate
        certificate.verify_directly_issued_by(root)
        root.verify_directly_issued_by(root)
        constraints = root.extensions.get_extension_for_oid(ExtensionOID.BASIC_CONSTRAINTS)
        assert constraints.critical and constraints.value == x509.BasicConstraints(ca=True, path_length=0)
        usage = root.extensions.get_extension_for_oid(ExtensionOID.KEY_USAGE).value
        assert isinstance(usage, x509.KeyUsage) and usage.key_cert_sign and not usage.digital_signature
        issuer = certificate.extensions.get_extension_for_oid(ExtensionOID.AUTHORITY_KEY_IDENTIFIER).value
        subject = root.extensions.get_extension_for_oid(ExtensionOID.SUBJECT_KEY_IDENTIFIER).value
        assert isinstance(issuer, x509.AuthorityKeyIdentifier) and isinstance(subject, x509.SubjectKeyIdentifier)
        assert issuer.key_identifier == subject.digest
        assert root.public_key() != certificate.public_key()
        assert certificate.not_valid_after_utc < root.not_valid_after_utc

    def test_no_two_roots_have_one_name(self) -> None:
        """A verifier that picks the root by its subject would try the wrong one after a replacement."""
        names = {AttestationAuthority.new("DE", "Beispiel GmbH", 0).root.subject.rfc4514_string() for _ in range(3)}
        assert len(names) == 3

    def test_what_it_signs_is_what_its_certificate_verifies(self, authority: AttestationAuthority) -> None:
        given = authority.attests(b"message")
        key = x509.load_der_x509_certificate(given.certificate).public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)
        key.verify(given.signature, b"message", ec.ECDSA(SHA256()))
        assert authority.certificate.public_bytes(Encoding.DER) == given.certificate

    @pytest.mark.parametrize("country", ["", "D", "de", "DEU", "D1", "D\n", "DE\n"])
    def test_a_country_that_is_none(self, country: str) -> None:
        with pytest.raises(ValueError, match="country"):
            AttestationAuthority.new(country, "Beispiel GmbH", 0)

    @pytest.mark.parametrize("organization", ["", "x" * 65, "two\nlines", "\x00"])
    def test_an_organization_that_is_none(self, organization: str) -> None:
        with pytest.raises(ValueError, match="organization"):
            AttestationAuthority.new("DE", organization, 0)

    def test_the_longest_names_still_fit_into_an_answer(self) -> None:
        authority = AttestationAuthority.new("DE", "\N{GRINNING FACE}" * 64, 0)
        assert len(authority.certificate.public_bytes(Encoding.DER)) <= 2048

    def test_stored_and_read_again(self, authority: AttestationAuthority) -> None:
        read = AttestationAuthority.from_bytes(authority.to_bytes())
        assert (read.root, read.certificate) == (authority.root, authority.certificate)
        assert read.to_bytes() == authority.to_bytes()
        with pytest.raises(DecodeError):
            AttestationAuthority.from_bytes(authority.to_bytes()[:-1])

    def test_private_keys_are_neither_shown_nor_pickled(self, authority: AttestationAuthority) -> None:
        assert "key" not in repr(authority)
        with pytest.raises(TypeError):
            pickle.dumps(authority)


class TestAtRest:
    def test_made_once_and_told(self, provisioning: ServiceContext) -> None:
        authority = made(provisioning)

        with pytest.raises(AttestationRefused) as refused:
            made(provisioning)
        assert refused.value.reason == "exists"
        assert attestation.current(provisioning).to_bytes() == authority.to_bytes()
        assert events(provisioning) == [
            (
                "attestation_authority_created",
                None,
                {"root": fingerprint(authority.root), "by": "command line"},
            ),
            (
                "attestation_certificate_issued",
                None,
                {
                    "certificate": fingerprint(authority.certificate),
                    "not_after": int(authority.certificate.not_valid_after_utc.timestamp()),
                    "by": "command line",
                },
            ),
        ]

    def test_replaced_on_purpose(self, provisioning: ServiceContext) -> None:
        first, second = made(provisioning), made(provisioning, replace=True)
        assert fingerprint(first.root) != fingerprint(second.root)
        assert attestation.current(provisioning).root == second.root

    def test_one_that_does_not_open_can_be_replaced_and_attests_nothing(self, provisioning: ServiceContext) -> None:
        made(provisioning)
        with provisioning.store.write() as conn:
            put_state(conn, attestation.NAME, b"\x01" + bytes(60))
        for use in (attestation.current, attestation.renew, attestation.renew_if_due, attester):
            with pytest.raises(SealingError):
                use(provisioning)
        made(provisioning, replace=True)
        assert attester(provisioning) is not None

    def test_neither_key_is_in_the_database(self, provisioning: ServiceContext, tmp_path: Path) -> None:
        authority = made(provisioning)
        keys = [key.private_numbers().private_value for key in (authority._root_key, authority._key)]
        provisioning.store.close()
        everything = b"".join(path.read_bytes() for path in (tmp_path / "data").glob("authsvc.db*"))
        for key in keys:
            assert key.to_bytes(32, "big") not in everything
        assert authority.root.public_bytes(Encoding.DER) not in everything, "sealed as a whole"

    def test_the_sealed_value_of_another_name_does_not_open(self, provisioning: ServiceContext) -> None:
        """Whoever can write rows must not be able to make one key serve as another."""
        made(provisioning)
        checkpoints.write_checkpoint(provisioning)
        with provisioning.store.write() as conn:
            put_state(conn, attestation.NAME, load_state(conn, checkpoints.KEY_NAME) or b"")
        with pytest.raises(SealingError):
            attestation.current(provisioning)

    def test_it_is_under_the_servers_own_data_key(self, provisioning: ServiceContext) -> None:
        made(provisioning)
        with provisioning.store.read() as conn:
            sealed = load_state(conn, attestation.NAME)
        assert provisioning.data_key(SERVER_OWNER).open(attestation.NAME, b"", sealed)


class TestRenewal:
    def test_by_the_server_in_time_and_under_the_same_root(self, provisioning: ServiceContext, clock: Clock) -> None:
        first = made(provisioning)
        clock.now += 547 * DAY
        attestation.renew_if_due(provisioning)
        assert attestation.current(provisioning).certificate == first.certificate, "half a year and more is left"

        clock.now += 2 * DAY
        attestation.renew_if_due(provisioning)
        renewed = attestation.current(provisioning)
        assert renewed.root == first.root
        assert renewed.certificate.public_key() != first.certificate.public_key()
        renewed.certificate.verify_directly_issued_by(first.root)
        assert renewed.certificate.subject == first.certificate.subject
        assert events(provisioning)[-1][2]["by"] == "server"

        attestation.renew_if_due(provisioning)
        assert attestation.current(provisioning).certificate == renewed.certificate, "once"

    def test_after_a_long_sleep(self, provisioning: ServiceContext, clock: Clock) -> None:
        made(provisioning)
        clock.now += 1000 * DAY
        assert attester(provisioning) is None, "nothing is attested with a certificate that has expired"
        attestation.renew_if_due(provisioning)
        assert attester(provisioning) is not None

    def test_by_hand_at_any_time(self, provisioning: ServiceContext) -> None:
        with pytest.raises(AttestationRefused) as refused:
            attestation.renew(provisioning)
        assert refused.value.reason == "none"
        first = made(provisioning)
        assert attestation.renew(provisioning).certificate != first.certificate

    def test_no_certificate_outlives_its_root(self, provisioning: ServiceContext, clock: Clock) -> None:
        first = made(provisioning)
        clock.now = first.root.not_valid_after_utc.timestamp() - 100 * DAY
        attestation.renew_if_due(provisioning)
        renewed = attestation.current(provisioning)
        assert renewed.certificate.not_valid_after_utc == first.root.not_valid_after_utc
        attestation.renew_if_due(provisioning)
        assert attestation.current(provisioning).certificate == renewed.certificate, "and then there is no point in it"

        clock.now += 101 * DAY
        attestation.renew_if_due(provisioning)
        assert attester(provisioning) is None
        with pytest.raises(AttestationRefused) as refused:
            attestation.renew(provisioning)
        assert refused.value.reason == "root_expired"

    def test_a_clock_that_was_set_back(self, provisioning: ServiceContext, clock: Clock) -> None:
        made(provisioning)
        clock.now -= 2 * DAY
        assert attester(provisioning) is None


class TestWhoIsAttested:
    def test_nobody_without_an_authority(self, provisioning: ServiceContext) -> None:
        attestation.renew_if_due(provisioning)
        assert attester(provisioning) is None

    @pytest.mark.parametrize(("scope", "own", "dealt"), [("all", 1, 1), ("provisioned", 0, 1), ("off", 0, 0)])
    def test_as_the_policy_says(
        self, provisioning: ServiceContext, scope: AttestationScope, own: int, dealt: int
    ) -> None:
        """A device that made a key has held it whole, so an operator may choose to vouch for dealt ones only."""
        made(provisioning)
        ctx = scoped(provisioning, scope)
        assert attests(ctx, credential()) == bool(own)
        assert attests(ctx, credential(b"ceremony" * 2)) == bool(dealt)


class TestMetadataStatement:
    @pytest.fixture
    def authority(self) -> AttestationAuthority:
        return AttestationAuthority.new("DE", "Beispiel GmbH", 1_800_000_000)

    def policy(self, ctx: ServiceContext, *profiles: Profile) -> Policy:
        return replace(ctx.policy, profiles={profile.name: profile for profile in profiles})

    def details(self, ctx: ServiceContext, authority: AttestationAuthority, *profiles: Profile, **more: Any) -> Any:
        return metadata_statement(self.policy(ctx, *profiles), authority, **more)["userVerificationDetails"]

    def test_a_reader_that_is_not_ours(self, provisioning: ServiceContext, authority: AttestationAuthority) -> None:
        statement = metadata_statement(provisioning.policy, authority)
        read = MetadataStatement.from_dict(json.loads(json.dumps(statement)))

        assert dict(read) == statement, "nothing was lost or understood otherwise"
        assert bytes(read.aaguid or b"") == AAGUID
        assert read.attestation_root_certificates == [authority.root.public_bytes(Encoding.DER)]
        for required in ("attestationTypes", "upv", "keyProtection", "attestationRootCertificates"):
            with pytest.raises((KeyError, TypeError, ValueError)):
                MetadataStatement.from_dict({k: v for k, v in statement.items() if k != required})

    def test_the_rules_of_the_specification(
        self, provisioning: ServiceContext, authority: AttestationAuthority
    ) -> None:
        """FIDO Metadata Statement 3.0, sections 3 and 4, and the registry's words, written down here a second time."""
        statement = metadata_statement(provisioning.policy, authority)
        assert statement["legalHeader"] and statement["schema"] == 3 and statement["protocolFamily"] == "fido2"
        assert statement["description"].isascii() and len(statement["description"]) <= 200
        assert set(statement["authenticationAlgorithms"]) == {"rsassa_pkcsv15_sha256_raw", "rsassa_pss_sha256_raw"}
        assert statement["publicKeyAlgAndEncodings"] == ["cose"]
        assert (statement["keyProtection"], statement["matcherProtection"]) == (["software"], ["software"])
        assert (statement["attachmentHint"], statement["tcDisplay"]) == (["internal"], [])
        told = statement["authenticatorGetInfo"]
        versions = {"FIDO_2_0": (1, 0), "FIDO_2_1": (1, 1)}
        assert [(each["major"], each["minor"]) for each in statement["upv"]] == [versions[v] for v in told["versions"]]
        assert told["aaguid"] == AAGUID.hex() == statement["aaguid"].replace("-", "")
        assert "algorithms" not in told, "@simplewebauthn/server would look for the attestation's among them"
        for combination in statement["userVerificationDetails"]:
            for each in combination:
                assert each["userVerificationMethod"] != "all"
                assert ("baDesc" in each) == (each["userVerificationMethod"] != "none")
        for root in statement["attestationRootCertificates"]:
            x509.load_der_x509_certificate(base64.b64decode(root, validate=True))

    def test_self_attestation_is_not_this_statements(
        self, provisioning: ServiceContext, authority: AttestationAuthority
    ) -> None:
        """Anybody can sign our AAGUID with a key of his own; a relying party that follows the statement refuses it."""
        assert metadata_statement(provisioning.policy, authority)["attestationTypes"] == ["basic_full"]

    def test_measured_rates_are_bounds_and_never_better_than_measured(
        self, provisioning: ServiceContext, authority: AttestationAuthority
    ) -> None:
        [[face]] = self.details(provisioning, authority, PUBLISHED["face-2048"])

        assert face["userVerificationMethod"] == "faceprint_internal"
        told = face["baDesc"]
        # 3 of 140 and 0 of 2,660. At the bound so few errors or fewer have a probability of 5 %, and less beyond it.
        for told_rate, errors, tries in ((told["selfAttestedFRR"], 3, 140), (told["selfAttestedFAR"], 0, 2660)):
            assert at_most(errors, tries, told_rate) <= 0.05 < at_most(errors, tries, 0.9 * told_rate)
        assert (told["maxTemplates"], told["maxRetries"], told["blockSlowdown"]) == (3, 5, 30)

    def test_simulated_measurements_are_no_rates(
        self, provisioning: ServiceContext, authority: AttestationAuthority
    ) -> None:
        [[iris]] = self.details(provisioning, authority, PUBLISHED["iris-2048"])
        assert iris["userVerificationMethod"] == "eyeprint_internal"
        assert not {"selfAttestedFRR", "selfAttestedFAR"} & set(iris["baDesc"])

    def test_a_stricter_rule_keeps_the_bound_of_accepts_only(
        self, provisioning: ServiceContext, authority: AttestationAuthority
    ) -> None:
        [[face]] = self.details(provisioning, authority, replace(PUBLISHED["face-2048"], threshold=500, thresholds=()))
        assert "selfAttestedFAR" in face["baDesc"] and "selfAttestedFRR" not in face["baDesc"]

    def test_a_profile_of_which_nobody_knows_what_it_measures(
        self, provisioning: ServiceContext, authority: AttestationAuthority
    ) -> None:
        """A simulated finger measures nobody: a statement that told otherwise would be a lie about every user."""
        hand = Profile(name="hand-512", code_bits=512, threshold=100, encoder_id="our hand v1")
        sim = provisioning.policy.profiles["sim-512"]
        assert self.details(provisioning, authority, hand, sim) == [[{"userVerificationMethod": "none"}]]
        told = self.details(provisioning, authority, hand, sim, methods={"hand-512": "handprint_internal"})
        assert [each["userVerificationMethod"] for [each] in told] == ["handprint_internal", "none"]
        assert set(told[0][0]["baDesc"]) == {"maxTemplates", "maxRetries", "blockSlowdown"}

    @pytest.mark.parametrize(
        "wrong",
        [
            {"description": ""},
            {"description": "Zürich"},
            {"description": "x" * 201},
            {"methods": {"no-such-profile": "faceprint_internal"}},
            {"methods": {"sim-512": "all"}},
            {"methods": {"face-2048": "eyeprint_internal"}},
            {"methods": {"sim-512": "passcode_external"}},
        ],
    )
    def test_what_it_cannot_say(
        self, provisioning: ServiceContext, authority: AttestationAuthority, wrong: dict[str, Any]
    ) -> None:
        with pytest.raises(ValueError, match=r"description|method"):
            metadata_statement(provisioning.policy, authority, **wrong)


class TestCommands:
    @pytest.fixture
    def run(self, tmp_path: Path) -> Run:
        environment = {**process_environment(tmp_path / "data"), "COLUMNS": "200", "NO_COLOR": "1"}

        def run(*arguments: Any) -> Result:
            return CliRunner().invoke(app, [str(each) for each in arguments], env=environment, prog_name="authsvc")

        return run

    def test_from_nothing_to_a_statement(self, run: Run, tmp_path: Path) -> None:
        for command in (("attestation", "show"), ("attestation", "renew"), ("metadata-statement",)):
            missing = run(*command)
            assert (missing.exit_code, missing.stdout) == (1, "")
            assert "authsvc attestation init" in missing.stderr

        made = run("attestation", "init", "--country", "DE", "--organization", "Beispiel GmbH")
        assert made.exit_code == 0, made.stderr
        shown = json.loads(run("attestation", "show", "--json").stdout)
        assert shown["root"]["sha256"] in made.stdout and shown["certificate"]["sha256"] in made.stdout

        root, statement = tmp_path / "root.pem", tmp_path / "statement.json"
        assert run("attestation", "export-root", "--out", root).exit_code == 0
        assert run("attestation", "export-root").stdout == root.read_text()
        read = x509.load_pem_x509_certificate(root.read_bytes())
        assert fingerprint(read) == shown["root"]["sha256"]

        written = run("metadata-statement", "--out", statement)
        assert written.exit_code == 0
        assert "sim-512" in written.stderr, "a server that serves simulated profiles is told what the statement says"
        told = json.loads(statement.read_text())
        assert base64.b64decode(told["attestationRootCertificates"][0]) == read.public_bytes(Encoding.DER)

        renewed = json.loads((run("attestation", "renew"), run("attestation", "show", "--json"))[1].stdout)
        assert renewed["root"] == shown["root"] and renewed["certificate"] != shown["certificate"]

    def test_a_second_one_needs_saying_so(self, run: Run) -> None:
        init = ("attestation", "init", "--country", "DE", "--organization", "Beispiel GmbH")
        assert run(*init).exit_code == 0
        again = run(*init)
        assert again.exit_code == 1 and "--replace" in again.stderr
        assert run(*init, "--replace").exit_code == 0

    @pytest.mark.parametrize("given", [("--country", "de"), ("--organization", "")])
    def test_names_that_are_none(self, run: Run, given: tuple[str, str]) -> None:
        arguments = {"--country": "DE", "--organization": "Beispiel GmbH", given[0]: given[1]}
        wrong = run("attestation", "init", *(each for pair in arguments.items() for each in pair))
        assert wrong.exit_code == 1 and given[0].strip("-") in wrong.stderr

    def test_no_statement_where_nothing_is_attested(self, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        run("attestation", "init", "--country", "DE", "--organization", "Beispiel GmbH")
        monkeypatch.setenv("TANDEM_ATTESTATION", "off")
        refused = run("metadata-statement")
        assert (refused.exit_code, refused.stdout) == (1, "") and "off" in refused.stderr

    @pytest.mark.parametrize("method", ["sim-512", "sim-512=all", "nobody=faceprint_internal"])
    def test_a_method_that_is_none(self, run: Run, method: str) -> None:
        run("attestation", "init", "--country", "DE", "--organization", "Beispiel GmbH")
        wrong = run("metadata-statement", "--method", method)
        assert wrong.exit_code == 1 and "method" in wrong.stderr

    def test_the_database_holds_one_row_more(self, run: Run, tmp_path: Path) -> None:
        run("attestation", "init", "--country", "DE", "--organization", "Beispiel GmbH")
        with sqlite3.connect(tmp_path / "data" / "authsvc.db") as connection:
            names = {name for (name,) in connection.execute("SELECT name FROM server_state")}
        assert attestation.NAME in names


def test_the_setting(tmp_path: Path) -> None:
    assert Settings(data_dir=tmp_path).policy().attestation == "all"
    assert Settings(data_dir=tmp_path, attestation="provisioned").policy().attestation == "provisioned"
    with pytest.raises(ValueError, match="attestation"):
        Settings(data_dir=tmp_path, attestation="everything")  # type: ignore[arg-type]

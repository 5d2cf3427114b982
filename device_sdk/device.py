"""`Device`: what an app holds. Enrol once, then create passkeys and sign in with them."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from device_sdk.authenticator.accounts import eligible_credentials, select_credential
from device_sdk.authenticator.client_data import Ceremony, ClientData, ClientDataHash, build_client_data
from device_sdk.authenticator.options import CreationOptions, parse_creation_options, parse_request_options
from device_sdk.authenticator.origin import parse_origin, relying_party_id
from device_sdk.authenticator.responses import authentication_response, registration_response
from device_sdk.biometrics import Encoder
from device_sdk.ceremony_report import CeremonyReport, ReportBuilder
from device_sdk.confirmer import Confirmer
from device_sdk.credential_info import CredentialInfo, credential_info
from device_sdk.enrolment import check_encoder, default_encoder, make_template
from device_sdk.enrolment import enrol as enrol_with_server
from device_sdk.expiry import unexpired
from device_sdk.history import History, read_history
from device_sdk.joint_authenticator import JointAuthenticator
from device_sdk.key_generation import MODULUS_BITS
from device_sdk.provisioning import (
    ProvisionedKeyInfo,
    export_recipient_key,
    import_share,
    provisioned_info,
    recipient,
    trusted_ceremony,
)
from device_sdk.recovery import finish_outstanding, recover
from device_sdk.registration import Registered
from device_sdk.server_api import Deadline, ServerApi, raise_as_fault
from device_sdk.state_store import StateStore
from device_sdk.template_changes import TemplateChanger, settle_change
from device_sdk.template_rotation import rotate_template, settle_rotation
from device_sdk.transport import HttpTransport, ServerProblem, Transport
from device_sdk.vault.keys import VaultKey
from device_sdk.vault.port import Vault, discard, existing_vault, new_vault
from device_sdk.vault.state import Credential, DeviceState
from mpc.login.user_verification import VerificationMethod
from mpc.primitives.hpke import HpkeSuite
from mpc.primitives.rng import Rng, SystemRng
from mpc.provisioning.recipient import Recipient

_CLOSING_TIMEOUT_S = 2.0

Options = dict[str, Any] | str | bytes
Capture = Callable[[], Any] | Any
ChooseAccount = Callable[[Sequence[CredentialInfo]], bytes | None]


@dataclass(frozen=True, slots=True)
class Inspection:
    """The device's half, for people who want to see that it is noise: packed bits, least significant first.

    For demonstrations and tests. Together with the server's half this is the template.
    """

    code_bits: int
    device_share_bits: bytes = field(repr=False)


class Device:
    """One enrolment of one person on this device.

    `create` and `get` take and give the JSON forms of WebAuthn Level 3. `origin` is stated by the app, never
    invented here. `capture` is a sample for the encoder, or a function that returns one and is called only once
    the options are known to be good. Every fault is a `TandemError`: its `advice` says whether to retry, to ask
    the user, or to stop. Calls block; `AsyncDevice` has the same methods for asyncio. Use as a context manager,
    or call `close`.
    """

    def __init__(
        self,
        store: StateStore,
        transport: Transport,
        encoder: Encoder,
        *,
        rng: Rng | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Apps call `enrol` or `open`. This is for those who bring their own transport or vault.

        clock: Unix seconds; judges whether a key that was dealt has expired.
        """
        check_encoder(encoder, store.state.profile)
        self._store = store
        self._transport = transport
        self._encoder = encoder
        self._rng = rng or SystemRng()
        self._api = ServerApi(transport)
        self._confirmer = Confirmer(store, self._api)
        self.authenticator = JointAuthenticator(store, self._api, self._confirmer, encoder, rng=self._rng, clock=clock)
        """What `create` and `get` are the JSON face of; for other faces, such as `device_sdk.ctap`."""

    @classmethod
    def enrol(
        cls,
        *,
        server: str,
        enrolment_code: str,
        captures: Sequence[Any],
        vault: str | Path | Vault,
        profile: str,
        encoder: Encoder | None = None,
        vault_key: VaultKey | None = None,
        ca_file: str | None = None,
        transport: Transport | None = None,
        rng: Rng | None = None,
    ) -> Device:
        """Enrol a person from three or more captures and open the new vault.

        For a profile with several templates `captures` is one sequence of three or more for each of them.
        `server`: https address (http only on loopback). `enrolment_code`: from the operator, good once.
        `profile`: the name of the server's matching profile; it is fetched and pinned. `encoder`: default, codes
        given directly. `vault`: a path for the new file, or an empty vault of the app's own, which has its own key.
        `vault_key`: of the file; default, the platform's key store. Raises VaultExists, EncodingError,
        InconsistentCaptures, EnrolmentRefused, TransportError, ServerMisbehaved, ServerRefused. If it raises, no
        vault is left behind.
        """
        transport = transport or HttpTransport(server, ca_file=ca_file)
        kept_in = new_vault(vault, vault_key)
        report = ReportBuilder("enrol")
        try:
            state = enrol_with_server(
                rng or SystemRng(),
                ServerApi(transport),
                server_url=server,
                code=enrolment_code,
                profile_name=profile,
                captures=captures,
                encoder=encoder,
                report=report,
            )
            kept_in.write(state.encode())
        except BaseException:
            transport.close()
            discard(kept_in)
            raise
        encoder = encoder or default_encoder(state.profile)
        device = cls(StateStore(kept_in, state), transport, encoder, rng=rng)
        device.authenticator.last_ceremony = report.finish()
        return device

    @classmethod
    def open(
        cls,
        vault: str | Path | Vault,
        *,
        encoder: Encoder | None = None,
        vault_key: VaultKey | None = None,
        ca_file: str | None = None,
        transport: Transport | None = None,
        rng: Rng | None = None,
    ) -> Device:
        """Open a vault made by `enrol`. Raises VaultMissing, VaultInUse, VaultKeyWrong, VaultCorrupt."""
        kept_in = existing_vault(vault, vault_key)
        try:
            store = StateStore.load(kept_in)
            return cls(
                store,
                transport or HttpTransport(store.state.server_url, ca_file=ca_file),
                encoder or default_encoder(store.state.profile),
                rng=rng,
            )
        except BaseException:
            kept_in.close()
            raise

    def create(self, options: Options, origin: str, capture: Capture, *, modulus_bits: int = 2048) -> dict[str, Any]:
        """Make a passkey: PublicKeyCredentialCreationOptionsJSON in, RegistrationResponseJSON out.

        If provisioned keys wait for the relying party, the oldest that the server takes is used, and `modulus_bits`
        counts for nothing. Runs the full joint login, so a registration proves the match and the split key. Raises
        NotSupported (no RSA algorithm on the list), Security (origin and rp id do not fit), InvalidState (an excluded
        credential is here; told only after the match), VaultFull, ShareExpired, ProvisionedKeyRefused (it names the
        keys), ProvisioningRequired, NoMatch and the other faults of `get`. After any of them a provisioned key waits
        for the next try.
        """
        wanted = parse_creation_options(options)
        site = parse_origin(origin)
        rp_id = relying_party_id(site, wanted.rp_id)
        if modulus_bits not in MODULUS_BITS:
            raise ValueError("modulus_bits: one of 2048, 3072, 4096")
        deadline, report = Deadline(wanted.timeout_ms / 1000), ReportBuilder("create")
        probe = self.authenticator.encoded(capture, report)
        client_data = build_client_data(Ceremony.CREATE, wanted.challenge, site)
        registered = self.authenticator.make_credential(
            wanted.new_credential(rp_id),
            ClientDataHash(client_data.hash),
            probe,
            deadline,
            report,
            modulus_bits=modulus_bits,
        )
        uvm = self.authenticator.verification_method if wanted.uvm else None
        return _registration_json(registered, wanted, client_data, uvm)

    def get(
        self, options: Options, origin: str, capture: Capture, *, choose_account: ChooseAccount | None = None
    ) -> dict[str, Any]:
        """Sign in: PublicKeyCredentialRequestOptionsJSON in, AuthenticationResponseJSON out.

        Of several accounts `choose_account` picks one (it gets them newest first and returns a credential id);
        without it the newest is taken. Raises NotAllowed (no passkey fits, none chosen, timed out), Security,
        ShareExpired (those that fit were dealt and have expired; nothing is captured then), NoMatch, LockedOut,
        BudgetSpent, Quarantined, NotActive, DeviceRestored, ServerMisbehaved, TransportError.
        """
        wanted = parse_request_options(options)
        site = parse_origin(origin)
        rp_id = relying_party_id(site, wanted.rp_id)
        chooser = None if choose_account is None else _chooser(choose_account)
        fitting = eligible_credentials(self.authenticator.credentials(), rp_id, wanted.allowed_ids)
        credential = select_credential(unexpired(fitting, self.authenticator.clock()), chooser)
        deadline, report = Deadline(wanted.timeout_ms / 1000), ReportBuilder("get")
        probe = self.authenticator.encoded(capture, report)
        client_data = build_client_data(Ceremony.GET, wanted.challenge, site)
        signed = self.authenticator.get_assertion(
            credential, ClientDataHash(client_data.hash), probe, deadline, report, uvm=wanted.uvm
        )
        return authentication_response(
            credential_id=credential.credential_id,
            client_data=client_data,
            authenticator_data=signed.authenticator_data,
            signature=signed.signature,
            user_handle=credential.user_handle if credential.discoverable else None,
            uvm=self.authenticator.verification_method if wanted.uvm else None,
        )

    def credentials(self) -> list[CredentialInfo]:
        """The passkeys on this device, oldest first. Nothing secret."""
        return [credential_info(credential) for credential in self.authenticator.credentials()]

    def provisioned(self) -> list[ProvisionedKeyInfo]:
        """The dealt keys that wait for their registration, oldest import first. Nothing secret."""
        return [provisioned_info(key) for key in self._store.state.provisioned]

    def recipient(
        self, *, suite: HpkeSuite | str | None = None, name: str | None = None, renew: bool = False
    ) -> Recipient:
        """What dealers seal this device's halves to: hand out `document`, read `fingerprint` to them. No network.

        Made once, and the same from then on. suite: "x25519" (unless told otherwise) or "mlkem768-x25519". name: up
        to 100 bytes of printable text for the people who deal. renew: make another one; the private key of the old
        one is gone then, and shares sealed to it open nowhere, nor can they be rewrapped, unless
        `export_recipient_key` was called before. Raises ValueError for a suite or name that is
        not that of the recipient already made, or that cannot be.
        """
        return recipient(self._store, suite=suite, name=name, renew=renew, now=int(self.authenticator.clock()))

    def export_recipient_key(self, passphrase: str) -> bytes:
        """The recipient with its private key, under a passphrase of 12 or more characters, for `tandem-keys rewrap`.

        Whoever has it and the passphrase can open the halves sealed to this device. Raises NoRecipient, ValueError.
        """
        return export_recipient_key(self._store, self._rng, passphrase)

    def retire_recipient(self) -> None:
        """Forget the recipient and its private key: nothing sealed to it opens here any more. No network.

        For when every share sealed to it is imported and none is on its way. Then only an exported key, or an older
        copy of the vault, adds up with a kept copy of the ceremony's folder. Does nothing if there is none; the next
        `recipient` makes a new one.
        """
        self._store.change(DeviceState.without_recipient)

    def import_share(
        self, source: str | Path | bytes, *, manifest: str | Path | bytes | None = None, ceremony_key: str | None = None
    ) -> ProvisionedKeyInfo:
        """Take in this device's half of a dealt key: a file's name or its content.

        ceremony_key: the fingerprint of the ceremony's key, from the witnesses and not from the server; `manifest`,
        a name or content too, must then be signed by that key and list this very file for this device. Without them
        the server alone vouches for who dealt the key, and one that dealt it itself knows the whole of it.

        It is stored once the server has seen that the halves fit; `create` then takes it. One that waits is shown to
        the server again and keeps its counter; importing one that is in use changes nothing. Raises NoRecipient,
        ShareRefused (see its `reason`), ShareExpired, ServerHalfMissing, RelyingPartyNotAllowed, NotActive, LockedOut,
        TransportError and ServerMisbehaved; the vault is as it was then. ValueError for a manifest without a
        fingerprint, or a fingerprint that is none.
        """
        dealt_in = trusted_ceremony(manifest, ceremony_key)
        with self._store.in_flight:
            self.authenticator.settle_outstanding()
            return import_share(self._store, self._api, source, dealt_in=dealt_in, now=self.authenticator.clock())

    def delete(self, credential_id: bytes) -> None:
        """Give up a passkey, or a provisioned key that waits: the server erases its share first, then this device.

        KeyError if unknown. A provisioned key that was given up cannot be imported again.
        """
        self.authenticator.delete(credential_id)

    def recover(self, code: str) -> None:
        """Return to service after a quarantine, with the operator's code: new request key, new base OTs.

        Raises EnrolmentRefused, StaleAfterRecovery (a copy overtook this device: enrol anew), TransportError.
        """
        with self._store.in_flight:
            settle_rotation(self._store, self._api)
            recover(self._rng, self._store, self._api, code)

    def rotate_template(self, code: str, captures: Sequence[Any]) -> None:
        """Put a new template in place, with the operator's code; the passkeys stay, and so does the enrolment.

        captures: three or more of one person, as for `enrol`. Unless the operator's code says otherwise, one of them
        must match the present template, in a login that signs for nobody. The old template is good until the server has
        the new one; if an answer is lost, this call again or the next ceremony finds out which of the two holds, and a
        code that is not spent works again. Raises EncodingError, InconsistentCaptures, EnrolmentRefused (the code),
        NoMatch, MatchMissing, NotActive, DeviceRestored, LockedOut, BudgetSpent, ServerMisbehaved, TransportError.
        """
        report = ReportBuilder("rotate")
        try:
            with self._store.in_flight:
                finish_outstanding(self._store, self._api)
                settle_change(self._store, self._confirmer)
                rotate_template(
                    self._rng,
                    self._store,
                    self._api,
                    self._confirmer,
                    encoder=self._encoder,
                    code=code,
                    captures=captures,
                    now=self.authenticator.clock(),
                    report=report,
                )
        finally:
            self.authenticator.last_ceremony = report.finish()

    def add_template(self, captures: Sequence[Any], match: Capture, *, code: str | None = None) -> bool:
        """Let one more look of the same person sign in, under a match with a template that there is.

        captures: three or more of the new look, as for `enrol`: with other glasses, of the other eye. match: one more
        capture, or a function that returns one, which must match a template that there is, in a login that signs for
        nobody. code: the operator's (one for a rotation), if the server asks for one; it is spent by the match. With
        each template a match takes a little more, so that several let strangers in no more often than one.

        True: it is in place. False: the match is stored here and the server has yet to hear of it, in the background or
        with the next ceremony, as after `get`; `templates` counts it once it has. If it raises, nothing has changed;
        only Quarantined, NotActive and ServerMisbehaved may come after the match, and then the next ceremony, or
        `recover`, finds out. Raises TooManyTemplates, EncodingError, InconsistentCaptures, NoMatch, MatchMissing,
        CodeRequired, EnrolmentRefused (the code), ProfileChanged, NotActive, DeviceRestored, LockedOut, BudgetSpent,
        ServerUnavailable, ServerMisbehaved, TransportError.
        """
        with self._changing_templates("add_template") as changer:
            after = changer.profile_with_one_more()
            with changer.report.step("device: capture and encode"):
                template = make_template(self._encoder, captures, after)
            return changer.add(template, after, lambda: self.authenticator.encoded(match, changer.report), code)

    def remove_template(self, position: int, match: Capture) -> bool:
        """Give a template up, under a match with any that there is; the only one stays.

        position: from 0, in the order of adding. The rest and the result as for `add_template`; also raises
        NoSuchTemplate.
        """
        with self._changing_templates("remove_template") as changer:
            return changer.remove(position, lambda: self.authenticator.encoded(match, changer.report))

    def history(self) -> History:
        """Everything the server recorded of this enrolment, newest first: above all every login signed in its name.

        Read from the first event on and checked: against the hashes that chain it, against the last event that this
        vault has seen, and against the logins that this device completed. A copy's logins show here as well. Costs no
        attempt, and works in quarantine. Raises HistoryAltered, ServerMisbehaved, ServerRefused, ServerUnavailable,
        TransportError.
        """
        with self._store.in_flight:
            finish_outstanding(self._store, self._api)
            return read_history(self._store, self._api)

    def confirm_now(self, timeout_s: float = 5.0) -> bool:
        """Deliver an outstanding confirmation in the foreground: True if none is left.

        Not needed in normal use: it goes out in the background, or along with the next login.
        """
        try:
            return self._confirmer.deliver(timeout_s=timeout_s)
        except ServerProblem as refusal:
            raise_as_fault(refusal)

    @property
    def enrolment_id(self) -> bytes:
        """16 bytes; what an operator needs to find this enrolment."""
        return self._store.state.enrolment_id

    @property
    def templates(self) -> int:
        """How many templates the enrolment has, and groups of captures `rotate_template` takes if more than one."""
        return self._store.state.profile.templates

    @property
    def last_ceremony(self) -> CeremonyReport | None:
        """What enrolment or the last `create` or `get` cost, successful or not; None after `open`."""
        return self.authenticator.last_ceremony

    def inspection(self) -> Inspection:
        """The device's half of the template, to look at."""
        state = self._store.state
        return Inspection(state.profile.code_bits, state.template.codes)

    def close(self) -> None:
        """Give an outstanding confirmation two seconds, close connections, release the vault."""
        self._confirmer.wait(_CLOSING_TIMEOUT_S)
        self._transport.close()
        self._store.close()

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Device(enrolment {self.enrolment_id.hex()}, {len(self.credentials())} passkeys)"

    @contextlib.contextmanager
    def _changing_templates(self, kind: str) -> Iterator[TemplateChanger]:
        """What is outstanding is settled first; afterwards the report is kept."""
        report = ReportBuilder(kind)
        try:
            with self._store.in_flight:
                self.authenticator.settle_outstanding()
                yield TemplateChanger(
                    self._rng, self._store, self._api, self._confirmer, self.authenticator.clock(), report
                )
        finally:
            self.authenticator.last_ceremony = report.finish()


def _registration_json(
    registered: Registered, wanted: CreationOptions, client_data: ClientData, uvm: VerificationMethod | None
) -> dict[str, Any]:
    authenticator_data, key = registered.signed.authenticator_data, registered.credential.key_share.key
    return registration_response(
        credential_id=registered.credential.credential_id,
        client_data=client_data,
        authenticator_data=authenticator_data,
        attestation_object=registered.attestation(wanted.attestation).object(authenticator_data),
        algorithm=int(registered.credential.algorithm),
        modulus=key.modulus,
        exponent=key.exponent,
        discoverable=wanted.discoverable if wanted.cred_props else None,
        uvm=uvm,
    )


def _chooser(choose: ChooseAccount) -> Callable[[list[Credential]], bytes | None]:
    return lambda found: choose([credential_info(credential) for credential in found])

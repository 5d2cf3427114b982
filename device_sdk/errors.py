"""Every fault an app can meet, each with a stable word, an advice and a sentence for the app developer.

`code` is for logs and `match` statements and does not change between releases; `advice` says what the app
should do next. Texts hold neither secrets nor anything a server, a relying party or a page chose.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum

from mpc.primitives import base64url


class Advice(StrEnum):
    """What an app should do about a fault."""

    RETRY = "retry"
    """Nothing is wrong for good: the same call, with a fresh capture, may succeed later."""
    ASK_USER = "ask_user"
    """The person in front of the device can put it right: another capture, a wait, another input."""
    STOP = "stop"
    """Calling again cannot help: an operator, the app developer or a new enrolment must act."""


class TandemError(Exception):
    """Something failed in the SDK / read `code` and `advice`, or catch a subclass."""

    code: str = "tandem_error"
    advice: Advice = Advice.STOP
    message: str = "the SDK failed; read code and advice"

    def __init__(self, message: str | None = None) -> None:
        if message is not None:
            self.message = message
        super().__init__(self.message)

    def __str__(self) -> str:
        return self.message


# ---- the match, and what the authentication server decided ---------------------------------------


class NoMatch(TandemError):
    """The capture did not match the enrolled person / ask for another capture and start a new login."""

    code = "no_match"
    advice = Advice.ASK_USER
    message = "the capture does not match the enrolled person; ask for another capture"


class LockedOut(TandemError):
    """Too many failures in a row / wait `retry_after_s` seconds, then ask for another capture."""

    code = "locked_out"
    advice = Advice.ASK_USER

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"too many failures in a row; wait {retry_after_s:.0f} s before the next try")
        self.retry_after_s = retry_after_s


class BudgetSpent(TandemError):
    """The attempts allowed for this enrolment are used up / use another way in, or ask the operator for a rotation."""

    code = "budget_spent"
    message = "the attempts allowed for this enrolment are used up; use another way in, or ask the operator"


class Quarantined(TandemError):
    """The server saw a sign of a copied or tampered device / send the user to the operator."""

    code = "quarantined"
    message = "this enrolment is quarantined: the device may have been copied; send the user to the operator"


class NotActive(TandemError):
    """The enrolment is not in use: quarantined, revoked or switched off / send the user to the operator."""

    code = "not_active"
    message = "this enrolment is not active at the server; send the user to the operator"


class DeviceRestored(TandemError):
    """The vault is a restored or copied one, older than the server / send the user to the operator."""

    code = "device_restored"
    message = "this vault was restored from a backup or copied; send the user to the operator for a recovery"


class StaleAfterRecovery(TandemError):
    """Another copy of this vault was confirmed later / delete this vault and enrol anew."""

    code = "stale_after_recovery"
    message = "another copy of this vault was confirmed after this one; delete this vault and enrol anew"


class EnrolmentRefused(TandemError):
    """The one-time code is wrong, used or expired / get a new code from the operator or the backend."""

    code = "enrolment_refused"
    message = "the one-time code is wrong, used or expired; ask for a new one"


class MatchMissing(TandemError):
    """A match with a present template is asked for, and none was shown / ask for a rotation code that asks for none.

    The device has no passkey in use that the server takes, or the login did not arrive.
    """

    code = "match_missing"
    message = (
        "a match with a present template is asked for, and this device could show none; sign in and try again, or ask "
        "the operator for a rotation code that asks for no match"
    )


class TooManyTemplates(TandemError):
    """The enrolment has as many templates as its profile allows / remove one first."""

    code = "too_many_templates"
    message = "this enrolment has as many templates as its profile allows; remove one first"


class NoSuchTemplate(TandemError):
    """There is no template at that position, or it is the only one / name another; the only one can be rotated."""

    code = "no_such_template"
    message = "there is no template at that position, or it is the only one, which can be rotated but not removed"


class CodeRequired(TandemError):
    """This server asks for an operator's code to add a template / get one and pass it as `code`."""

    code = "code_required"
    advice = Advice.ASK_USER
    message = "this server asks for an operator's code to add a template; get one and pass it along"


class RelyingPartyNotAllowed(TandemError):
    """The server does not serve this relying party / have the operator add it to the allowed ones."""

    code = "relying_party_not_allowed"
    message = "the authentication server does not serve this relying party; its operator can allow it"


class ProfileChanged(TandemError):
    """The matching profile changed during the call / call again; if it persists, enrol again."""

    code = "profile_changed"
    advice = Advice.RETRY
    message = "the server's matching profile changed; call again, and enrol again if this persists"


_WORD = re.compile(r"[a-z][a-z0-9_]{0,39}", re.ASCII)


class ServerMisbehaved(TandemError):
    """An answer of the server failed a check, nothing was released / tell the user and the operator.

    `reason` is a stable word that names the failed check.
    """

    code = "server_misbehaved"

    def __init__(self, reason: str) -> None:
        self.reason = reason if _WORD.fullmatch(reason) else "malformed"
        super().__init__(f"the server's answer failed a check ({self.reason}); nothing was released, tell the operator")


class HistoryAltered(TandemError):
    """The server's record of this enrolment is not the one it was / tell the user and the operator.

    `reason` is a stable word: rolled_back (it ends before the last event seen), rewritten (an event seen before is
    another now), broken (it does not agree with itself), or logins_missing (logins that this device completed are not
    in it, or rotations are in it that this device did not make). A server that was restored from a backup looks like
    this; so does one that lies.
    """

    code = "history_altered"

    def __init__(self, reason: str) -> None:
        self.reason = reason if reason in _HISTORY_REASONS else "broken"
        super().__init__(f"{_HISTORY_REASONS[self.reason]}; show this to the user and ask the operator")


_HISTORY_REASONS = {
    "rolled_back": "the server's record of this enrolment ends before an event that was seen in it earlier",
    "rewritten": "the server's record of this enrolment was changed since it was last read",
    "broken": "the server's record of this enrolment does not agree with itself",
    "logins_missing": "logins that this device completed are missing from the server's record of this enrolment",
}


class ServerRefused(TandemError):
    """The server refused the request for the reason in `code` / report the code to the operator."""

    code = "refused"

    def __init__(self, code: str) -> None:
        # The word comes from the network; anything that is not a plain word is not repeated.
        self.code = code if _WORD.fullmatch(code) else "refused"
        super().__init__(f"the server refused the request ({self.code}); report the code to its operator")


# ---- keys that were dealt elsewhere ---------------------------------------------------------------


class NoRecipient(TandemError):
    """No share can be sealed to this device yet / make a recipient and have the keys dealt to it."""

    code = "no_recipient"
    message = "this device has made no recipient; call recipient() and have the keys dealt to what it gives"


class ShareRefused(TandemError):
    """The share file was refused, nothing was stored / see `reason`, and get the right file.

    `reason` is a stable word: not_a_share, unknown_version, truncated, altered, other_role, other_key,
    other_recipient, bad_rp_id, unreadable (no such file, or none that can be read) or vault_full. Where the user
    gave the fingerprint of a ceremony's key also no_manifest, bad_manifest, other_ceremony_key or not_in_manifest.
    """

    code = "share_refused"

    def __init__(self, reason: str) -> None:
        self.reason = reason if reason in _SHARE_REASONS else "altered"
        super().__init__(_SHARE_REASONS[self.reason])


_SHARE_REASONS = {
    "not_a_share": "this is no share file; give the file that the ceremony made for this device",
    "unknown_version": "the share file has a version that this release does not know; update the app",
    "truncated": "the share file is cut short; copy it again",
    "altered": "the share file was altered or damaged; copy it again, and if that does not help report it",
    "other_role": "the share file holds the server's half; give the one in the ceremony's device folder",
    "other_key": "the share file holds another key than it says; report it to whoever dealt it",
    "other_recipient": (
        "the share file is sealed to another recipient; give the one for this device, or have it rewrapped"
    ),
    "bad_rp_id": "the share file names a relying party that cannot exist; report it to whoever dealt it",
    "unreadable": "the share file cannot be read; check its name and permissions",
    "vault_full": "this vault holds as many waiting keys as it can; delete some and import again",
    "no_manifest": "there is no manifest to check the share against, or it cannot be read; give the ceremony's",
    "bad_manifest": "the manifest was altered or is none; copy it again, and if that does not help report it",
    "other_ceremony_key": (
        "the manifest is signed by another key than the fingerprint names; compare it with what the witnesses wrote "
        "down, and report it if it differs"
    ),
    "not_in_manifest": (
        "this file was not dealt to this device in that ceremony; give the file and the manifest of one ceremony, and "
        "if they are, report it: somebody else has made this share"
    ),
}


class ShareExpired(TandemError):
    """The provisioned key, or the passkey it became, has expired / get a new one, or delete it with `Device.delete`."""

    code = "share_expired"
    message = "the provisioned key has expired; have a new one dealt, or delete this one to register without it"


class ServerHalfMissing(TandemError):
    """The server holds no half that may be paired with this one, the vault is as it was / have it imported.

    To a device these are alike: not imported yet; dealt to another enrolment, in another split or on other terms; in
    use already, revoked or expired.
    """

    code = "server_half_missing"
    message = (
        "the server holds no half that may be paired with this one: it is not imported yet, does not fit, or was used, "
        "revoked or expired; nothing was changed here. Ask its operator to import the ceremony or to deal a new key, "
        "then import the share again"
    )


class ProvisionedKeyRefused(TandemError):
    """The server lets none of these provisioned keys be used / ask the operator, delete them, get a new one.

    `key_ids`: all that waited for the relying party and had not expired; each was tried. Importing the share again
    helps where the server was restored to an older state.
    """

    code = "provisioned_key_refused"

    def __init__(self, key_ids: Sequence[bytes] = ()) -> None:
        self.key_ids = tuple(key_ids)
        # A key id is a hash that this device has computed; nobody chose its letters.
        named = ", ".join(base64url.encode(key_id) for key_id in self.key_ids[:_KEYS_NAMED])
        more = f" and {len(self.key_ids) - _KEYS_NAMED} more" if len(self.key_ids) > _KEYS_NAMED else ""
        super().__init__(
            "the server does not accept the provisioned key: it was revoked, has expired or went to another device; "
            "import its share again, or ask the operator for a new one and delete this one"
            + (f" ({named}{more})" if named else "")
        )


_KEYS_NAMED = 3


class ProvisioningRequired(TandemError):
    """Only a key that was dealt may be registered here / import this device's share first, then call again.

    The relying party takes no others, or one waits at the server for this device.
    """

    code = "provisioning_required"
    message = (
        "a key was dealt to this device for this relying party, or the relying party takes no others; import the share "
        "for this device, then register again"
    )


# ---- the way to the server -----------------------------------------------------------------------


class TransportError(TandemError):
    """The server could not be reached or the answer did not arrive / check the network and call again."""

    code = "transport"
    advice = Advice.RETRY
    message = "the server could not be reached or its answer did not arrive; check the network and call again"


class ServerUnavailable(TandemError):
    """The server answered that it cannot serve now / call again later."""

    code = "server_unavailable"
    advice = Advice.RETRY
    message = "the server cannot serve requests at the moment; call again later"


class InsecureTransport(TandemError):
    """The server address is not https and not this machine / give an https address."""

    code = "insecure_transport"
    message = "plain http is allowed to this machine only; give the server's https address"


# ---- the vault -----------------------------------------------------------------------------------


class VaultInUse(TandemError):
    """Another process or Device holds this vault / close it there, then call again."""

    code = "vault_in_use"
    advice = Advice.RETRY
    message = "this vault is open elsewhere; close it there and call again"


class VaultCorrupt(TandemError):
    """The vault file is damaged or was changed / do not restore a copy: enrol anew."""

    code = "vault_corrupt"
    message = "the vault file is damaged or was changed; do not restore an old copy, enrol anew"


class VaultKeyWrong(TandemError):
    """The key does not open this vault / ask for the passphrase again or check the key source."""

    code = "vault_key_wrong"
    advice = Advice.ASK_USER
    message = "this key does not open the vault; ask for the passphrase again or check the key source"


class VaultExists(TandemError):
    """There is a vault at this path already / open it, or enrol to another path."""

    code = "vault_exists"
    message = "there is a vault at this path already; open it or choose another path"


class VaultMissing(TandemError):
    """There is no vault at this path / check the path, or enrol first."""

    code = "vault_missing"
    message = "there is no vault at this path; check the path or enrol first"


class VaultFull(TandemError):
    """The vault holds as many passkeys as it can / have the user delete some, then call again."""

    code = "vault_full"
    advice = Advice.ASK_USER
    message = "this vault holds as many passkeys as it can; delete some, then register again"


# ---- captures ------------------------------------------------------------------------------------


class InconsistentCaptures(TandemError):
    """The enrolment captures do not agree with each other / capture the same person again.

    `positions`: those that do not fit, counted from 1; empty where no single ones can be named.
    """

    code = "inconsistent_captures"
    advice = Advice.ASK_USER
    message = "the enrolment captures differ too much from each other; capture the same person again"

    def __init__(self, message: str | None = None, positions: Sequence[int] = ()) -> None:
        super().__init__(message)
        self.positions = tuple(positions)


class EncodingError(TandemError):
    """A capture could not be turned into a code / ask for a better capture."""

    code = "encoding"
    advice = Advice.ASK_USER
    message = "the capture could not be encoded; ask for a better one"


# ---- WebAuthn ------------------------------------------------------------------------------------


class WebAuthnError(TandemError):
    """A WebAuthn ceremony failed / hand `dom_name` to the page, as a browser would name the exception."""

    code = "webauthn"
    dom_name: str = "UnknownError"
    message = "the WebAuthn ceremony failed"


class NotAllowed(WebAuthnError):
    """No credential fits the request, or the user refused / let the user choose another way in."""

    code = "not_allowed"
    advice = Advice.ASK_USER
    dom_name = "NotAllowedError"
    message = "no credential on this device fits the request, or the user refused; offer another way in"


class NotSupported(WebAuthnError):
    """The relying party lists no RSA algorithm / have it add -257 (RS256) to pubKeyCredParams."""

    code = "not_supported"
    dom_name = "NotSupportedError"
    message = (
        "pubKeyCredParams lists neither RS256 (-257) nor PS256 (-37), the algorithms of this authenticator; "
        "the relying party must add -257"
    )


class InvalidState(WebAuthnError):
    """This device already holds an excluded credential / let the user log in instead of registering."""

    code = "invalid_state"
    advice = Advice.ASK_USER
    dom_name = "InvalidStateError"
    message = "this device already holds a credential the relying party excludes; log in with it instead"


class Security(WebAuthnError):
    """The origin may not use this relying party id / correct the origin or the rp id."""

    code = "security"
    dom_name = "SecurityError"
    message = "this origin may not use this relying party id; correct the origin or the rp id"


class InvalidOptions(WebAuthnError):
    """The options are malformed at `field` / correct what the relying party sends.

    The offending value is never repeated.
    """

    code = "invalid_options"
    dom_name = "TypeError"

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field} {problem}; correct the options the relying party sends")
        self.field = field

"""What a request can be refused for. HTTP codes of the relying party stand here and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from relying_party_demo.face_phone_port import PictureProblem


class Refusal(Exception):
    """A request was refused / `code` is a stable word, `detail` a sentence for the person at the browser.

    Texts are written here: they never hold what the browser sent, nor a message of a library about it.
    """

    code: ClassVar[str] = "refused"
    status: ClassVar[int] = 400
    title: ClassVar[str] = "That request was refused"
    detail: str = "The request was refused."

    def __init__(self, detail: str | None = None) -> None:
        if detail is not None:
            self.detail = detail
        super().__init__(self.detail)

    def problem(self) -> dict[str, Any]:
        """The problem document of RFC 9457."""
        return {
            "type": f"urn:relying-party:problem:{self.code}",
            "title": self.title,
            "status": self.status,
            "detail": self.detail,
            "code": self.code,
        }


class Malformed(Refusal):
    """The body or a field of it is not what the endpoint takes / correct the request."""

    code = "malformed"
    title = "The request could not be read"
    detail = "The body is not what this address takes."


class TooLarge(Refusal):
    """The body is longer than any honest request / send less."""

    code = "too_large"
    status = 413
    title = "The request is too large"
    detail = "The body is longer than this address takes."


class UnsupportedMediaType(Refusal):
    """The body has another content type / send the one named in `detail`."""

    code = "unsupported_media_type"
    status = 415
    title = "The content type does not fit"


class MissingCsrfToken(Refusal):
    """The request does not prove that it came from a page of this site / load the page anew."""

    code = "csrf"
    status = 403
    title = "This page is out of date"
    detail = "The request did not carry the token of this browser. Load the page again and repeat."


class WrongHost(Refusal):
    """The Host header names another site / use the address of the settings."""

    code = "wrong_host"
    status = 421
    title = "Wrong address"
    detail = "This site answers under one address only."


class NotSignedIn(Refusal):
    """The page needs a session / sign in."""

    code = "not_signed_in"
    status = 401
    title = "You are not signed in"
    detail = "Sign in first."


class NotFound(Refusal):
    """There is nothing at this address / check it."""

    code = "not_found"
    status = 404
    title = "Nothing here"
    detail = "There is nothing at this address."


class MethodNotAllowed(Refusal):
    """The address exists for another method / check it."""

    code = "method_not_allowed"
    status = 405
    title = "Not this way"
    detail = "This address does not take that method."


class InvalidName(Refusal):
    """The account name or shown name is not usable / choose another."""

    code = "invalid_name"
    title = "That name cannot be used"
    detail = (
        "An account name is 1 to 64 characters long and made of letters a to z, digits and . _ - + @; "
        "a shown name is 1 to 64 printable characters."
    )


class NameTaken(Refusal):
    """Another account has this name / choose another or sign in."""

    code = "name_taken"
    status = 409
    title = "That name is taken"
    detail = "There is an account with this name already. Choose another, or sign in."


class TooManyPasskeys(Refusal):
    """The account has as many passkeys as it may have / remove one first."""

    code = "too_many_passkeys"
    status = 409
    title = "Too many passkeys"
    detail = "This account has as many passkeys as it may have. Remove one first."


class LastPasskey(Refusal):
    """Removing the passkey would lock its owner out / add another first."""

    code = "last_passkey"
    status = 409
    title = "This is your only passkey"
    detail = "Without it you could not sign in again. Add another passkey first."


class ChallengeNotOpen(Refusal):
    """The challenge was used, has expired, or belongs to another browser or purpose / start again."""

    code = "challenge_not_open"
    title = "That attempt is no longer open"
    detail = (
        "The challenge was answered before, has expired, or was given to another browser or for another "
        "purpose. Start again."
    )


class WrongOrigin(Refusal):
    """The passkey was used on another site / come to the real address."""

    code = "wrong_origin"
    title = "That came from another site"
    detail = "The passkey was used on a page of another origin. Nothing was accepted."


class RegistrationRefused(Refusal):
    """The verifying library did not accept the new passkey / start again or use another authenticator."""

    code = "registration_refused"
    title = "The passkey was not accepted"
    detail = "The answer of the authenticator did not verify, so no passkey was stored."


class NotAttested(Refusal):
    """The site takes one make of authenticator only, and this is none / use one of that make."""

    code = "not_attested"
    status = 403
    title = "This authenticator is not taken here"
    detail = "This site takes passkeys of one make of authenticator only, and could not verify that yours is of it."


class LoginRefused(Refusal):
    """The assertion did not verify / the same answer for an unknown passkey and for a bad signature."""

    code = "login_refused"
    status = 401
    title = "You were not signed in"
    detail = "The passkey is not known here for this account, or its signature did not verify."


class CounterWentBack(Refusal):
    """A correctly signed answer counted no further than an earlier one / the passkey may be copied."""

    code = "sign_count_regression"
    status = 403
    title = "This passkey may have been copied"
    detail = (
        "The signature is correct, but the passkey's signature counter did not go up since it was last used "
        "here. Two devices may hold the same key, so the sign-in was refused. Use another passkey, and remove "
        "this one."
    )


class PicturesRefused(Refusal):
    """The pictures show no single usable face / take others. `problems`: position from 1, code and sentence of each.

    Nothing was sent to the authentication server, and no attempt was spent.
    """

    code = "pictures_refused"
    status = 422
    title = "Take other pictures"
    detail = "The pictures cannot be used."

    def __init__(self, detail: str, problems: Sequence[PictureProblem] = ()) -> None:
        super().__init__(detail)
        self.problems = tuple(problems)

    def problem(self) -> dict[str, Any]:
        pictures = [{"position": one.position, "code": one.code, "detail": one.text} for one in self.problems]
        return {**super().problem(), "pictures": pictures}


class NoFaceEnrolled(Refusal):
    """This browser's phone knows no face, or was put away to make room / enrol."""

    code = "no_face_enrolled"
    status = 409
    title = "No face is enrolled here"
    detail = "This browser’s phone knows no face. Enrol first."


class FaceEnrolled(Refusal):
    """This browser's phone knows a face already / sign in with it, or have it forgotten first."""

    code = "face_enrolled"
    status = 409
    title = "A face is enrolled already"
    detail = "This browser’s phone knows a face already. Sign in with it, or have it forgotten first."


class PhoneFailed(Refusal):
    """The phone could not be enrolled at its authentication server, or not erased there / try again."""

    code = "phone_failed"
    status = 503
    title = "The phone failed"
    detail = "The phone’s authentication server could not be reached. Try again."


class Internal(Refusal):
    """Something here failed / try again; the operator finds it in the log."""

    code = "internal"
    status = 500
    title = "Something failed here"
    detail = "The fault is on this side and was logged. Try again."

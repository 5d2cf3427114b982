"""What an encoder says when it cannot make a code."""

from __future__ import annotations

from typing import Final

from device_sdk import errors


class EncodingError(errors.EncodingError):
    """A sample cannot be turned into a binary code; `code` says why.

    Nothing has been sent and no attempt has been spent. Where `advice` is ASK_USER, ask for another capture;
    where it is STOP, the app passes samples of another kind than the encoder takes. The text never contains
    bits or embedding values.

    `code` is one of these stable words:

    | code | what happened | advice |
    |---|---|---|
    | `wrong_type` | not an array of the accepted kind | STOP |
    | `wrong_shape` | wrong number of bits or dimensions | STOP |
    | `not_binary` | a value other than 0 and 1 | STOP |
    | `mask_missing`, `mask_unexpected` | the encoder and the sample disagree on masks | STOP |
    | `too_few_captures` | enrolment needs three | STOP |
    | `not_finite` | an embedding holds NaN or infinity | ASK_USER |
    | `zero_embedding` | an embedding is all zero, so it has no direction | ASK_USER |
    | `no_information` | an embedding equals the population mean; nothing is left to encode | ASK_USER |
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.advice = errors.Advice.ASK_USER if code in _CAPTURE_AGAIN else errors.Advice.STOP


_CAPTURE_AGAIN: Final = frozenset({"not_finite", "zero_embedding", "no_information"})

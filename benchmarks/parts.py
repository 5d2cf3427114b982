"""Which functions make up which part of a login, on either side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from authsvc.services import confirmation, frame, limits
from authsvc.services import login as login_service
from authsvc.store.engine import Store
from benchmarks.stopwatch import REST, Attachments, Stopwatch
from benchmarks.transports import InProcessTransport
from device_sdk.confirmer import Confirmer
from device_sdk.transport import RequestKey
from device_sdk.vault.file import VaultFile
from device_sdk.vault.state import DeviceState
from mpc.login import device_side, server_side, template
from mpc.login.messages import Message1, Message3
from mpc.ot import extension_receiver

SERVER_LOGIN = "/v1/logins"
SERVER_CONFIRMATION = "/v1/confirmations"
DEVICE_LOGIN = "device login"
DEVICE_CONFIRMATION = "device confirmation"

RSA = "RSA"
OT = "OT"
GARBLING = "garbling"
EVALUATION = "evaluation"
SEALING = "sealing"
SQL = "SQL"
AT_REST = "shares at rest"
SIGNATURE = "request signature"
DECODING = "decoding"
REFRESH = "refresh"
VAULT = "vault"
HTTP = "HTTP"

SERVER_PARTS = (RSA, OT, GARBLING, SEALING, SQL, AT_REST, SIGNATURE, DECODING, REFRESH, HTTP, REST)
DEVICE_PARTS = (RSA, OT, EVALUATION, REFRESH, VAULT, SIGNATURE, HTTP, REST)
MPC_PARTS = (OT, GARBLING, SEALING)


@contextmanager
def attached(watch: Stopwatch) -> Iterator[None]:
    """While inside, the functions below are timed wherever they run within a whole."""
    with Attachments(watch) as attach:
        # Server, both messages.
        attach.time(frame, "authenticate", SIGNATURE)
        attach.time_edges(Store, "read", SQL)
        attach.time_edges(Store, "write", SQL)
        for module in (login_service, confirmation, frame, limits):
            attach.time_all_from(module, "authsvc.store", SQL)
            attach.time_all_from(module, "authsvc.services.secrets_at_rest", AT_REST)
        # Server, message 1. What is left of `decide` is key agreement, key derivation and the sealed box.
        attach.time(Message1, "decode", DECODING)
        attach.time(login_service, "decide", SEALING)
        attach.time(server_side, "_received_wires", OT)
        attach.time(server_side, "partial_signature", RSA)
        attach.time(server_side, "share_tag_is_valid", RSA)
        attach.time(server_side, "garble", GARBLING)
        attach.time(server_side, "input_whitening", GARBLING)
        attach.time(server_side, "_own_input_masks", GARBLING)
        # Server, message 3.
        attach.time(Message3, "decode", DECODING)
        attach.time_all_from(confirmation, "mpc.login.template", REFRESH)
        attach.time_all_from(confirmation, "mpc.threshold_rsa.shares", REFRESH)
        # Device.
        attach.time(device_side, "partial_signature", RSA)
        attach.time(device_side, "share_tag", RSA)
        attach.time(device_side, "combine", RSA)
        attach.time(device_side, "challenge", OT)
        attach.time(extension_receiver, "extend", OT)
        attach.time(extension_receiver, "prove", OT)
        attach.time(device_side, "evaluate", EVALUATION)
        attach.time(device_side, "input_whitening", EVALUATION)
        attach.time(device_side, "refresh_offset", REFRESH)
        attach.time(template, "refreshed", REFRESH)
        attach.time(VaultFile, "write", VAULT)
        attach.time(DeviceState, "encode", VAULT)
        attach.time(RequestKey, "from_scalar", SIGNATURE)
        attach.time(InProcessTransport, "sign", SIGNATURE)
        attach.time(Confirmer, "deliver", REST, whole=DEVICE_CONFIRMATION)
        yield

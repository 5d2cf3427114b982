"""The way to the server: signed requests over HTTPS, bounded in time and size."""

from __future__ import annotations

from device_sdk.transport.https import HttpTransport, Transport, TransportReply
from device_sdk.transport.problem import Problem, ServerProblem, parse_problem
from device_sdk.transport.request_signing import RequestKey, signed_headers, signing_key_id

__all__ = [
    "HttpTransport",
    "Problem",
    "RequestKey",
    "ServerProblem",
    "Transport",
    "TransportReply",
    "parse_problem",
    "signed_headers",
    "signing_key_id",
]

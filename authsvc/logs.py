"""Logs: one JSON object a line on standard error, with allowed fields only. Bodies, keys, ids and texts from clients
never get in; a client's address only where a setting says so.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog

from .observation import current

LogLevel = Literal["debug", "info", "warning", "error"]

ALLOWED_FIELDS = frozenset(
    {
        "event",
        "level",
        "timestamp",
        "request_id",
        "method",
        "route",
        "status",
        "code",
        "ms",
        "bytes_in",
        "bytes_out",
        "address",
        "exception",
        "where",
        "url",
        "revision",
        "enrolments",
        "worker",
        "exit_code",
        "delay_s",
        "reason",
        "not_after",
    }
)


def configure_logs(level: LogLevel = "info") -> None:
    """Set up structlog for this process. level: what is less serious is left out."""
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            add_request_id,
            keep_allowed_fields,
            structlog.processors.JSONRenderer(sort_keys=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        # A line in one write: printing writes its end apart, and another worker's line may come in between. To what
        # standard error is when it is written: one that was redirected for a while may be closed by now.
        logger_factory=lambda *_: structlog.WriteLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )


def add_request_id(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Give every line that is written while a request is served that request's id."""
    if (exchange := current()) is not None:
        fields.setdefault("request_id", exchange.request_id)
    return fields


def keep_allowed_fields(_logger: object, _method: str, fields: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Drop every field that is not on the list: a new field is a decision, not an accident."""
    return {name: value for name, value in fields.items() if name in ALLOWED_FIELDS}


def where(error: BaseException) -> list[str]:
    """The stack of an error as file:line:function. Not its message: that may hold what a client sent."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f"{frame.filename}:{frame.lineno}:{frame.name}" for frame in frames[-12:]]

"""Puts the server together. Nothing below this file knows where its settings come from."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import anyio.to_thread
import structlog
from fastapi import FastAPI

from mpc.primitives.rng import SystemRng

from .api import admin, health, metrics, openapi, profiles, protocol
from .api.address_limit import AddressLimit
from .api.admin_gate import AdminGate
from .api.back_pressure import BoundedRequests
from .api.client_address import parse_network
from .api.observed import ObservedRequests
from .api.problems import install_problem_handlers
from .console.application import Console
from .logs import configure_logs
from .metrics import login_latency, tell_build
from .places import Places
from .services.checkpoint_thread import CheckpointThread
from .services.checkpoints import begin_audit
from .services.context import ServiceContext
from .services.kek_adoption import adopt_kek, rotation_is_due
from .services.keyring import Keyring
from .settings import Settings, SettingsError, ensure_data_dir
from .store import migrate
from .store.engine import Store
from .tracing import Tracer, TracingUnavailable, otlp_tracer

_OTHER_THREADS = 4
"""For everything but the protocol. Each has a connection to the database; the framework's default would be 40."""


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application.

    Reads (or, at the first start, makes) the key files; the database is opened, migrated and checked when the
    application starts. Raises SettingsError, KeyUnavailable; at start MigrationError, WrongKek, StoreUnavailable.
    """
    configure_logs(settings.log_level)
    ctx = create_context(settings)
    workers = ThreadPoolExecutor(settings.worker_threads, thread_name_prefix="tandem")
    checkpoints = CheckpointThread(ctx, settings.audit_checkpoint_s)
    taker = ThreadPoolExecutor(1, thread_name_prefix="tandem-limits")
    tracer = _tracer(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = _OTHER_THREADS
        prepare_database(ctx)
        tell_build(migrate.head_revision())
        checkpoints.start()
        structlog.get_logger().info("started", revision=migrate.head_revision())
        if rotation_is_due(ctx.store, ctx.keyring):
            structlog.get_logger().warning("kek_rotation_due")
        try:
            yield
        finally:
            workers.shutdown(wait=True)
            taker.shutdown(wait=True)
            checkpoints.stop()
            if tracer is not None:
                tracer.close()
            ctx.store.close()
            ctx.keyring.close()

    # No interactive documentation pages: they load scripts from elsewhere. The slash is part of an address
    # here: a redirect would change what was signed.
    app = FastAPI(
        title="Tandem authsvc",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        redirect_slashes=False,
    )
    app.state.context = ctx
    install_problem_handlers(app)
    app.include_router(profiles.router(ctx.policy))
    app.include_router(health.router(ctx, migrate.head_revision()))
    app.include_router(metrics.router())
    app.include_router(admin.router(ctx))
    openapi.describe(app, ctx.policy)
    places = Places(settings.max_queued)  # for everything but the protocol
    app.add_middleware(BoundedRequests, places=places)
    app.add_middleware(AdminGate, ctx=ctx, places=places, body_timeout_s=settings.body_timeout_s)
    if settings.console:
        app.add_middleware(Console, ctx=ctx, places=places)
    # What is added later stands further out: a login passes through the next three and nothing else.
    app.add_middleware(
        protocol.ProtocolRoutes,
        ctx=ctx,
        endpoints=protocol.protocol_endpoints(ctx),
        workers=workers,
        max_queued=settings.max_queued,
        body_timeout_s=settings.body_timeout_s,
    )
    app.add_middleware(AddressLimit, ctx=ctx, taker=taker)
    app.add_middleware(
        ObservedRequests,
        trusted_proxies=[parse_network(each) for each in settings.trusted_proxies],
        log_addresses=settings.log_addresses,
        tracer=tracer,
    )
    return app


def _tracer(settings: Settings) -> Tracer | None:
    try:
        return otlp_tracer() if settings.tracing else None
    except TracingUnavailable as error:
        raise SettingsError(str(error)) from None


def create_context(settings: Settings) -> ServiceContext:
    """The tools of the use cases, for the application and for command lines. Raises SettingsError, KeyUnavailable."""
    ensure_data_dir(settings)
    return ServiceContext(
        # Half of the threads at most wait for turns, so that the other half serves everybody else.
        store=Store(settings.database(), most_waiting=max(1, settings.worker_threads // 2)),
        keyring=Keyring(settings.key_wrappers()),
        policy=settings.policy(),
        rng=SystemRng(),
        clock=time.time,
        login_latency=login_latency,
    )


def prepare_database(ctx: ServiceContext) -> None:
    """Bring the database to this code's revision, check that the KEK is its own, and begin its audit log."""
    migrate.upgrade(ctx.store)
    adopt_kek(ctx.store, ctx.keyring)
    begin_audit(ctx)

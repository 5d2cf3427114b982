"""Puts the server together. Nothing below this file knows where its settings come from."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI

from mpc.primitives.rng import SystemRng

from .api import admin, health, metrics, openapi, profiles, protocol
from .api.address_limit import AddressLimit
from .api.admin_gate import AdminGate
from .api.client_address import parse_network
from .api.observed import ObservedRequests
from .api.problems import install_problem_handlers
from .logs import configure_logs
from .metrics import tell_build
from .sealing import Sealer
from .services.context import ServiceContext
from .services.readiness import adopt_kek
from .settings import Settings, SettingsError, ensure_data_dir
from .store import migrate
from .store.engine import Store
from .tracing import Tracer, TracingUnavailable, otlp_tracer


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application.

    Reads (or, at the first start, makes) the key files; the database is opened, migrated and checked when the
    application starts. Raises SettingsError; at start MigrationError, WrongKek, StoreUnavailable.
    """
    configure_logs(settings.log_level)
    ctx = create_context(settings)
    workers = ThreadPoolExecutor(settings.worker_threads, thread_name_prefix="tandem")
    taker = ThreadPoolExecutor(1, thread_name_prefix="tandem-limits")
    tracer = _tracer(settings)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        prepare_database(ctx)
        tell_build(migrate.head_revision())
        structlog.get_logger().info("started", revision=migrate.head_revision())
        try:
            yield
        finally:
            workers.shutdown(wait=True)
            taker.shutdown(wait=True)
            if tracer is not None:
                tracer.close()
            ctx.store.close()

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
    app.add_middleware(AdminGate, admin_token=settings.load_admin_token())
    # What is added later stands further out: a login passes through the next three and nothing else.
    app.add_middleware(protocol.ProtocolRoutes, ctx=ctx, endpoints=protocol.protocol_endpoints(ctx), workers=workers)
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
    """The tools of the use cases, for the application and for command lines. Raises SettingsError."""
    ensure_data_dir(settings)
    return ServiceContext(
        store=Store(settings.database()),
        sealer=Sealer(settings.load_kek()),
        policy=settings.policy(),
        rng=SystemRng(),
        clock=time.time,
    )


def prepare_database(ctx: ServiceContext) -> None:
    """Bring the database to this code's revision and check that the KEK is its own."""
    migrate.upgrade(ctx.store)
    adopt_kek(ctx.store, ctx.sealer)

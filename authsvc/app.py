"""Puts the server together. Nothing below this file knows where its settings come from."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import structlog
from fastapi import FastAPI

from mpc.primitives.rng import SystemRng

from .api import admin, health, profiles, protocol
from .api.admin_gate import AdminGate
from .api.problems import install_problem_handlers
from .logs import configure_logs
from .services.context import ServiceContext
from .services.kek_adoption import adopt_kek, rotation_is_due
from .services.keyring import Keyring
from .settings import Settings, ensure_data_dir
from .store import migrate
from .store.engine import Store


def create_app(settings: Settings) -> FastAPI:
    """The ASGI application.

    Reads (or, at the first start, makes) the key files; the database is opened, migrated and checked when the
    application starts. Raises SettingsError, KeyUnavailable; at start MigrationError, WrongKek, StoreUnavailable.
    """
    configure_logs()
    ctx = create_context(settings)
    workers = ThreadPoolExecutor(settings.worker_threads, thread_name_prefix="tandem")

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        prepare_database(ctx)
        structlog.get_logger().info("started", revision=migrate.head_revision())
        if rotation_is_due(ctx.store, ctx.keyring):
            structlog.get_logger().warning("kek_rotation_due")
        try:
            yield
        finally:
            workers.shutdown(wait=True)
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
    app.include_router(admin.router(ctx))
    app.add_middleware(AdminGate, admin_token=settings.load_admin_token())
    # Added last, so outermost: a login passes through nothing that it does not need.
    app.add_middleware(protocol.ProtocolRoutes, ctx=ctx, endpoints=protocol.protocol_endpoints(ctx), workers=workers)
    return app


def create_context(settings: Settings) -> ServiceContext:
    """The tools of the use cases, for the application and for command lines. Raises SettingsError, KeyUnavailable."""
    ensure_data_dir(settings)
    return ServiceContext(
        store=Store(settings.database()),
        keyring=Keyring(settings.key_wrappers()),
        policy=settings.policy(),
        rng=SystemRng(),
        clock=time.time,
    )


def prepare_database(ctx: ServiceContext) -> None:
    """Bring the database to this code's revision and check that the KEK is its own."""
    migrate.upgrade(ctx.store)
    adopt_kek(ctx.store, ctx.keyring)

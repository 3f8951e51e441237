"""System checks of the settings: `manage.py check` says what is wrong before a request does."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Warning

import fastalloc

from . import options

MIDDLEWARE = "fastalloc.integrations.django.Middleware"
AUTHENTICATION = "django.contrib.auth.middleware.AuthenticationMiddleware"


def check_settings(**kwargs: Any) -> list[CheckMessage]:
    """All that is wrong with FASTALLOC and with where the middleware stands."""
    return [*_check_options(), *_check_middleware(), *_check_forcing(), *_check_recording()]


def _check_options() -> list[CheckMessage]:
    given = getattr(settings, "FASTALLOC", {})
    if not isinstance(given, dict):
        return [
            Warning(
                "FASTALLOC is no dict.", hint='FASTALLOC = {"mode": "light"}', id="fastalloc.W001"
            )
        ]
    try:
        fastalloc.config.check(options.of_recorder(settings))
    except fastalloc.ConfigError as error:
        return [Warning(f"FASTALLOC: {error}.", hint="Nothing of it is used.", id="fastalloc.W001")]
    return []


def _check_middleware() -> list[CheckMessage]:
    stack = list(settings.MIDDLEWARE)
    if MIDDLEWARE in stack and stack[0] != MIDDLEWARE:
        return [
            Warning(
                f"{MIDDLEWARE} is not first in MIDDLEWARE.",
                hint="What middlewares before it allocate counts for no request. Put it first.",
                id="fastalloc.W002",
            )
        ]
    return []


def _check_forcing() -> list[CheckMessage]:
    if options.staff_may_force(settings) and not {MIDDLEWARE, AUTHENTICATION} <= set(
        settings.MIDDLEWARE
    ):
        return [
            Warning(
                "FASTALLOC has staff_may_force, which does nothing here.",
                hint=f"It needs {MIDDLEWARE} and {AUTHENTICATION} in MIDDLEWARE.",
                id="fastalloc.W003",
            )
        ]
    return []


def _check_recording() -> list[CheckMessage]:
    status = fastalloc.status()
    if status.reason in ("", "not started", "disabled", "stopped"):
        return []
    return [
        Warning(
            f"fastalloc does not record as it should: {status.reason}.",
            hint="The service runs all the same.",
            id="fastalloc.W004",
        )
    ]

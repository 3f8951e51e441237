"""Whether a staff user sends a request, found out beside it.

The request's own session and user stay untouched: to look at them would change the response's
headers (Vary: Cookie), and what the view finds cached.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib import auth
from django.http import HttpRequest


def sends(request: Any) -> bool:
    """Costs a look into the session store and one query. Never raises."""
    try:
        return _is_staff(auth.get_user(_beside(request)))
    except Exception:  # no session, no database, no such user
        return False


async def sends_async(request: Any) -> bool:
    """The same in asynchronous stacks."""
    try:
        return _is_staff(await auth.aget_user(_beside(request)))
    except Exception:
        return False


def _beside(request: Any) -> HttpRequest:
    """A request of our own with the same session key."""
    key = request.COOKIES[settings.SESSION_COOKIE_NAME]
    beside = HttpRequest()
    beside.session = import_module(settings.SESSION_ENGINE).SessionStore(key)
    return beside


def _is_staff(user: Any) -> bool:
    return bool(user.is_authenticated and user.is_active and user.is_staff)

"""The settings dict FASTALLOC: options of the recorder, and one of this integration.

FASTALLOC = {"mode": "light", "token_secret": os.environ["..."], "staff_may_force": True}
"""

from __future__ import annotations

from typing import Any

STAFF_MAY_FORCE = "staff_may_force"


def of_recorder(settings: Any) -> dict[str, object]:
    """What belongs to the recorder; {} where FASTALLOC is no dict."""
    return {
        str(name).lower(): value
        for name, value in _all(settings).items()
        if name != STAFF_MAY_FORCE
    }


def staff_may_force(settings: Any) -> bool:
    """Whether a staff user's X-Force-Memory-Profile needs no token. False unless it says True."""
    return _all(settings).get(STAFF_MAY_FORCE) is True


def _all(settings: Any) -> dict[str, object]:
    given = getattr(settings, "FASTALLOC", None)
    return given if isinstance(given, dict) else {}

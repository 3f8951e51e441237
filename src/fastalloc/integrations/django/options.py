"""The settings dict FASTALLOC: options of the recorder, and one of this integration.

FASTALLOC = {"mode": "light", "token_secret": os.environ["..."], "staff_may_force": True}
"""

from __future__ import annotations

import warnings
from typing import Any

import fastalloc

STAFF_MAY_FORCE = "staff_may_force"

_handed_on = False


def hand_on(settings: Any) -> None:
    """Give the recorder its options, and start it where they name a mode and nothing runs yet. Once per
    process: the application and the middleware both ask for it, and settings may name either alone.

    A wrong option is not worth the service: it is warned of, and nothing of FASTALLOC is used.
    """
    global _handed_on
    if _handed_on:
        return
    _handed_on = True
    given = of_recorder(settings)
    try:
        fastalloc.configure(given)
        if "mode" in given and not fastalloc.status().active:
            fastalloc.start()
    except fastalloc.ConfigError as error:
        warnings.warn(f"FASTALLOC in settings is not used: {error}", stacklevel=3)


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

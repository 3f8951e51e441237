"""Values of options: what each kind takes, converted and checked."""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fastalloc.config import Option

MODES = ("disabled", "standby", "light", "aggressive", "targeted")
MAX_FRAMES = 256
MAX_NATIVE_FRAMES = 64
TRACKERS = ("queries", "models", "global_scopes", "sessions", "admin", "caches")
NO = ("", "0", "false", "no", "off")
_BYTE_UNITS = {"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}


class ConfigError(ValueError):
    """An option's name or value is wrong; says which one and what it should be."""


def checked(option: Option, value: object) -> object:
    """The value in the option's own type. ConfigError says what it should be."""
    if option.kind == "mode":
        if value not in MODES:
            raise ConfigError(f"mode: {value!r} is none of {', '.join(MODES)}")
        return value
    if option.kind == "directory":
        if not isinstance(value, (str, os.PathLike)) or not os.fspath(value):
            raise ConfigError(f"dir: {value!r} is no path")
        return os.path.abspath(os.fspath(value))
    if option.kind == "secret":
        if not isinstance(value, str) or 0 < len(value) < 16:
            raise ConfigError(f"{option.name}: it must be a text of 16 characters or more")
        return value
    if option.kind == "flag":
        return _flag(option.name, value)
    if option.kind == "trackers":
        return _trackers(value)
    if option.kind == "signal":
        return _signal(value)
    if option.kind == "percent":
        return _percent(option.name, value)
    if option.kind == "url":
        return _checked_url(option.name, value)
    number = _number(option.name, value)
    low, high = {
        "interval_bytes": (1, 1 << 40),
        "max_frames": (1, MAX_FRAMES),
        "native_frames": (0, MAX_NATIVE_FRAMES),
        "scale": (1, 64),
        "dump_max_bytes": (64 << 10, 4 << 20),
        "dump_max_ms": (10, 10_000),
        "kill_switch_seconds": (1, 3600),
    }.get(option.name, (0, 1 << 62))
    if not low <= number <= high:
        raise ConfigError(f"{option.name}: {number} is not between {low} and {high}")
    return number


def _signal(value: object) -> object:
    """The name of a signal that may be used; "" for none."""
    if value:
        from fastalloc.signals import signal_number

        try:
            signal_number(value)
        except ValueError as error:
            raise ConfigError(f"dump_signal: {error}") from None
    return value or ""


def _percent(name: str, value: object) -> float:
    """A number from 0 to 100, whole where it is whole."""
    try:
        number = float(value) if isinstance(value, (int, float, str)) else -1.0
    except ValueError:
        number = -1.0
    if not 0 <= number <= 100 or isinstance(value, bool):
        raise ConfigError(f"{name}: {value!r} is no number from 0 to 100")
    return int(number) if number.is_integer() else number


def _flag(name: str, value: object) -> bool:
    word = value.strip().lower() if isinstance(value, str) else value
    if word in (True, "1", "true", "yes", "on"):
        return True
    if word in (False, "0", "false", "no", "off"):
        return False
    raise ConfigError(f"{name}: {value!r} is neither true nor false")


def _trackers(value: object) -> str:
    """ "all", "none", or names in the order of the table, from a text or a list of names."""
    given = value.split(",") if isinstance(value, str) else value
    if not isinstance(given, (list, tuple, set, frozenset)):
        raise ConfigError(f"trackers: {value!r} is no list of names")
    names = {str(name).strip() for name in given}
    if names in ({"all"}, {"none"}):
        return names.pop()
    unknown = names - set(TRACKERS)
    if unknown or not names:
        wrong = ", ".join(sorted(unknown)) or "nothing"
        raise ConfigError(f"trackers: {wrong} is none of all, none, {', '.join(TRACKERS)}")
    return ",".join(name for name in TRACKERS if name in names)


def _checked_url(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{name}: {type(value).__name__} is no text")
    if value:
        from fastalloc.shared_key import Address

        try:
            Address(value)
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None
    return value


def _number(name: str, value: object) -> int:
    """An integer, or a text like "512KiB"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, str):
        text, unit = value.strip().lower(), 1
        for suffix, factor in _BYTE_UNITS.items():
            if text.endswith(suffix):
                text, unit = text[: -len(suffix)].strip(), factor
        try:
            return int(text) * unit
        except ValueError:
            pass
    raise ConfigError(f"{name}: {value!r} is no whole number (such as 524288 or 512KiB)")

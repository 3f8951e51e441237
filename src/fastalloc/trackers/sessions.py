"""Sessions: how large the session of a request is, which keys make it so, what loading and saving it allocates.

Sizes are those of the values as the session's own serializer writes them, before compression and signatures. Values are
serialized to be measured and thrown away; they are told nowhere. Names of keys are told where they look like a
name in a program; others may hold data, and are told as a hash.
"""

from __future__ import annotations

import re
from time import perf_counter

from fastalloc.breaker import Breaker
from fastalloc.tracebacks import hide_frames
from fastalloc.trackers.replaced import Replaced
from fastalloc.trackers.work import Section, around, around_coroutine, current, open_sections

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from fastalloc.trackers.work import Work

NAME = "sessions"
MAX_KEYS = 200
LARGEST_KEYS = 8
MEASURE_SECONDS = 0.005  # a key that is being measured is measured to its end
MAX_BACKENDS = 20
MAX_LARGEST = 10
LOAD, SAVE = "session load", "session save"

breaker = Breaker("tracker sessions")
enabled = True

_NAME_LIKE = re.compile(r"[A-Za-z_](?:[A-Za-z_.:-]|\d(?!\d{3})){0,63}\Z")
_replaced = Replaced()


class Session:
    """The session of one request, until it is measured."""

    __slots__ = ("backend", "dumps", "loaded_bytes", "mapping_of", "saved_bytes")

    def __init__(
        self, backend: str, mapping_of: Callable[[], Any], dumps: Callable[[Any], Any]
    ) -> None:
        self.backend, self.mapping_of, self.dumps = backend, mapping_of, dumps
        self.loaded_bytes = self.saved_bytes = 0

    def to_dict(self) -> dict[str, Any] | None:
        """Fit for JSON; None where there is nothing in it."""
        mapping = self.mapping_of()
        if not mapping:
            return None
        return {
            "backend": self.backend,
            **_sizes(mapping, self.dumps),
            "load_bytes": self.loaded_bytes,
            "save_bytes": self.saved_bytes,
        }


def _sizes(mapping: Mapping[str, Any], dumps: Callable[[Any], Any]) -> dict[str, Any]:
    sizes: dict[str, int] = {}
    total, until = 0, perf_counter() + MEASURE_SECONDS
    for key, value in list(mapping.items())[:MAX_KEYS]:
        if perf_counter() > until:
            break
        size = len(dumps(value))
        total += size + len(str(key))
        sizes[shown(key)] = size
    largest = sorted(sizes.items(), key=lambda item: -item[1])[:LARGEST_KEYS]
    return {
        "size_bytes": total,
        "keys": len(mapping),
        "not_measured": len(mapping) - len(sizes),
        "largest": dict(largest),
    }


def shown(key: object) -> str:
    """A key's name, or a hash of it where it may be data: not like a name, or with a number in it."""
    text = str(key)
    if _NAME_LIKE.match(text):
        return text
    import zlib

    return f"(key #{zlib.crc32(text.encode('utf-8', 'replace')):08x})"


# --- Django -----------------------------------------------------------------------------------------


def install_django() -> None:
    """Wrap the loading and saving of the session store in settings."""
    from importlib import import_module

    from django.conf import settings

    store = import_module(settings.SESSION_ENGINE).SessionStore
    for name in ("load", "save", "aload", "asave"):
        original = getattr(store, name, None)
        if original is None:
            continue
        wrap = around_coroutine if name.startswith("a") else around
        begin = _begin_load if name.endswith("load") else _begin_save
        _replaced.put(store, name, wrap(original, breaker, begin, _end))


def uninstall() -> None:
    """Everything as it was."""
    _replaced.restore()


def _begin_load(work: Work, args: tuple[Any, ...]) -> Section | None:
    return _begin(work, args[0], LOAD)


def _begin_save(work: Work, args: tuple[Any, ...]) -> Section | None:
    return _begin(work, args[0], SAVE)


def _begin(work: Work, store: Any, label: str) -> Section | None:
    """None inside another: to save a new session is save -> create -> save, and counts once."""
    if any(section.subject in (LOAD, SAVE) for section in open_sections()):
        return None
    kept = work.notes.get(NAME)
    if kept is None:
        backend = type(store).__module__.rpartition(".")[2]
        work.notes[NAME] = Session(
            backend, lambda: getattr(store, "_session_cache", None), store.serializer().dumps
        )
    return Section(work, label, label)


def _end(section: Section, result: Any) -> None:
    session: Session = section.work.notes[NAME]
    size = section.bytes + section.nested_bytes
    if section.subject == LOAD:
        session.loaded_bytes += size
    else:
        session.saved_bytes += size


# --- Flask, Starlette: sessions in signed cookies ---------------------------------------------------


def install_flask() -> None:
    """Look at the session once a response has been made of it."""
    from flask import request_finished

    request_finished.connect(_flask_finished)


def _flask_finished(app: Any, **kwargs: object) -> None:
    work = current()
    if work is not None:
        breaker.call(_keep_flask, work, app)


def _keep_flask(work: Work, app: Any) -> None:
    from flask import session

    # The session itself, past its proxy: to look at it must not count as an access.
    proxy: Any = session
    inner = proxy._get_current_object()
    interface = app.session_interface
    dumps = getattr(getattr(interface, "serializer", None), "dumps", None) or _json_dumps()
    kept = dict.copy(inner) if isinstance(inner, dict) else None
    work.notes[NAME] = Session(type(interface).__name__, lambda: kept, dumps)


def install_starlette() -> None:
    """Look at the session of its SessionMiddleware after the request."""
    from starlette.middleware.sessions import SessionMiddleware

    original: Any = SessionMiddleware.__call__

    async def __call__(self: Any, scope: Any, receive: Any, send: Any) -> None:
        try:
            await original(self, scope, receive, send)
        except BaseException as error:
            hide_frames(error)
            raise
        finally:
            work = current()
            if work is not None:
                breaker.call(_keep_starlette, work, scope)

    _replaced.put(SessionMiddleware, "__call__", __call__)


def _keep_starlette(work: Work, scope: Any) -> None:
    work.notes[NAME] = Session("starlette", lambda: scope.get("session"), _json_dumps())


def _json_dumps() -> Callable[[Any], str]:
    import json

    return json.dumps


# --- what is told -----------------------------------------------------------------------------------

_by_backend: dict[str, dict[str, int]] = {}
_largest: list[dict[str, Any]] = []


def finish(work: Work) -> dict[str, Any] | None:
    """The request is over: measure its session."""
    session: Session | None = work.notes.get(NAME)
    told = session.to_dict() if session is not None else None
    if told is None:
        return None
    size = told["size_bytes"]
    if told["backend"] in _by_backend or len(_by_backend) < MAX_BACKENDS:
        whole = _by_backend.setdefault(
            told["backend"], {"requests": 0, "bytes": 0, "largest_bytes": 0}
        )
        whole["requests"] += 1
        whole["bytes"] += size
        whole["largest_bytes"] = max(whole["largest_bytes"], size)
    _largest.append({"route": work.request.route, **told})
    _largest.sort(key=lambda one: -one["size_bytes"])
    del _largest[MAX_LARGEST:]
    return told


def section() -> dict[str, Any]:
    """The dump's part: all sessions that were looked at, the largest ones by key."""
    return {
        "backends": {backend: dict(whole) for backend, whole in tuple(_by_backend.items())},
        "largest": list(_largest),
    }


def reset() -> None:
    """Forget all: a forked child's table is its own."""
    _by_backend.clear()
    _largest.clear()

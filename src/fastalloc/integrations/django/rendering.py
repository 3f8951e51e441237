"""The phase "render": whatever renders a template, be it `render()`, `render_to_string` or a form.

Django tells of a render by a hook only in its tests, so `render` of the template backends' templates, a
documented method, is wrapped. A render inside a render is part of that one.
"""

from __future__ import annotations

import functools
import importlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from django.conf import settings

import fastalloc
from fastalloc import requests
from fastalloc.tracebacks import hide_frames

if TYPE_CHECKING:
    from collections.abc import Callable

PHASE = "render"

_inside: ContextVar[bool] = ContextVar("fastalloc_rendering", default=False)


def watch() -> None:
    """Wrap the templates of the backends in settings, once. Never raises."""
    for engine in settings.TEMPLATES:
        try:
            module = importlib.import_module(engine["BACKEND"].rpartition(".")[0])
        except Exception:  # Django will say so when it needs it
            continue
        template = getattr(module, "Template", None)  # so in Django's own, and in django-jinja
        original = getattr(template, "render", None)
        if original is not None and not hasattr(original, "fastalloc_wrapped"):
            template.render = _in_phase(original)  # type: ignore[union-attr]


def _in_phase(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def render(self: Any, *args: Any, **kwargs: Any) -> Any:
        request = requests.current()
        try:
            if request is None or request.phase == PHASE or _inside.get():
                return original(self, *args, **kwargs)
            token = _inside.set(True)
            try:
                with fastalloc.phase(PHASE):
                    return original(self, *args, **kwargs)
            finally:
                _inside.reset(token)
        except BaseException as error:
            hide_frames(error)
            raise

    render.fastalloc_wrapped = True  # type: ignore[attr-defined]
    return render

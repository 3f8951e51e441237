"""Requests: the spans that a framework's integration opens, one per unit of work.

    request = requests.begin("GET (no route)", kind="http", named=False)
    request.enter("view")                      # a phase; the one before is left
    request.rename("GET /orders/{id}/")        # once the route is known
    request.status = 200
    request.end()

What runs inside asks for it, in whatever thread or task:

    request = requests.current()               # None outside
    if request is not None and request.detailed:
        request.digest("queries", {"count": 3, "bytes": 81920})

The byte sampler sees all requests. Detail, which costs more, is kept for few of them: choice.py
says which. Nothing here raises into the program.
"""

from __future__ import annotations

from fastalloc.requests.endings import flush, listen
from fastalloc.requests.request import (
    Opener,
    Request,
    Sending,
    active,
    begin,
    current,
    observe,
    prepare,
    takes_tokens,
)
from fastalloc.spans import context_number

__all__ = [
    "Opener",
    "Request",
    "Sending",
    "active",
    "begin",
    "context_number",
    "current",
    "flush",
    "listen",
    "observe",
    "prepare",
    "takes_tokens",
]

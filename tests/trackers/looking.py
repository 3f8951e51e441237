"""What the programs of these tests share: a piece of work alone, then as a request in detail."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import fastalloc
from fastalloc import _core, requests


def start(folder: str, **options: object) -> None:
    """Record, each request in detail."""
    fastalloc.start(**{"mode": "aggressive", "dir": folder, **options})


def bytes_of(work: Callable[[], object]) -> int:
    """What the work allocates in this thread when nothing looks at it."""
    work()
    before = _core.thread_totals()[1]
    work()
    return _core.thread_totals()[1] - before


def look(name: str, work: Callable[[], Any]) -> dict[str, Any]:
    """The digests that the work leaves as a request, with the truth beside: `alone` is what it
    allocates without a request."""
    alone = bytes_of(work)
    with_nothing = requests.begin(name)  # the first use of anything allocates more
    work()
    with_nothing.end()
    request = requests.begin(name)
    kept = work()
    request.end()
    del kept
    return {"alone": alone, "span": request.totals()[2], **request.digests}


def answer(**cases: Any) -> None:
    """Say it and stop."""
    fastalloc.stop()
    json.dump(cases, sys.stdout)

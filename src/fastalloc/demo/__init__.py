"""The demo: a real Django shop with one report that bloats, served, killed, and explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

MIB = 1 << 20
LIMIT_BYTES = 256 * MIB
REQUESTS = 3000

__all__ = ["LIMIT_BYTES", "REQUESTS", "run"]


def run(
    output: Path,
    server: str = "both",
    limit_bytes: int = LIMIT_BYTES,
    requests: int = REQUESTS,
    console: Console | None = None,
) -> int:
    """Serve the shop until a worker dies for its memory, and tell from its recording why.

    output: a folder for recordings, logs, flame graphs and `summary.json`.
    server: "gunicorn", "uvicorn" or "both". requests: how many to send at most.

    Returns 0 if the memory ran out and the recording names the guilty span and line.
    """
    from .story import tell_all  # Django, rich and numpy: only for who runs it

    return tell_all(output, server, limit_bytes, requests, console)

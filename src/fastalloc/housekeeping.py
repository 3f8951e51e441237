"""Old recordings go by themselves, so that restarting workers never fill the disk."""

from __future__ import annotations

import os
import time

KEPT = 100  # recordings of ended processes; a dead one takes up to 3.5 MiB x scale
SPARED_SECONDS = 3600.0  # nothing younger goes: it may belong to a process in another container


def remove_old_recordings(directory: str) -> int:
    """Delete the oldest recordings of ended processes beyond KEPT; returns how many.

    Costs one listing of the folder when there is nothing to do. Never raises.
    """
    try:
        names = [name for name in os.listdir(directory) if name.endswith(".recording")]
    except OSError:
        return 0
    if len(names) <= KEPT:
        return 0
    ended = []
    for name in names:
        path = os.path.join(directory, name)
        try:
            changed = os.stat(path).st_mtime
        except OSError:
            continue
        if changed < time.time() - SPARED_SECONDS and not _runs(name):
            ended.append((changed, path))
    removed = 0
    for _, path in sorted(ended)[: max(0, len(ended) - KEPT)]:
        try:
            os.unlink(path)
            removed += 1
        except OSError:
            pass
    return removed


def _runs(name: str) -> bool:
    """Whether a process with the pid in a recording's name exists here (not necessarily it)."""
    try:
        return os.path.exists(f"/proc/{int(name.split('-')[1])}")
    except (IndexError, ValueError):
        return True

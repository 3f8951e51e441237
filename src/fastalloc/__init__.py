"""A memory flight recorder for Python services.

    import fastalloc
    fastalloc.start()

keeps, in one small file that survives the process: which requests, lines and threads hold memory.
With FASTALLOC_MODE set in the environment, `import fastalloc` starts by itself. Every name here has
its help.
"""

from fastalloc.config import ConfigError
from fastalloc.profiler import autostart as _autostart
from fastalloc.profiler import (
    configure,
    disable,
    enable,
    read,
    snapshot,
    start,
    status,
    stop,
    write_dump,
)
from fastalloc.spans import checkpoint, phase, span

__all__ = [
    "ConfigError",
    "checkpoint",
    "configure",
    "disable",
    "enable",
    "phase",
    "read",
    "snapshot",
    "span",
    "start",
    "status",
    "stop",
    "write_dump",
]

_autostart()

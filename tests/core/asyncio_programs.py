"""Programs whose `main()` runs on an event loop."""

from __future__ import annotations

from tests.core.programs import Programs
from tests.core.scopes import PRELUDE

ASYNC = "import asyncio, sys, time\n" + PRELUDE


def run(programs: Programs, body: str, runner: str = "asyncio.run(main())"):
    """The snapshot after `main()` of the body has run."""
    return programs.run(ASYNC + body + f"\n{runner}\nfastalloc.stop()\n").snapshot()

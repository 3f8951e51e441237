"""What the tests of spans and phases share: blocks that can be told from exact bytes."""

from __future__ import annotations

from tests.core.programs import Programs

# A block of this many bytes is far larger than what Python itself allocates around it, so that the
# number of blocks of a span can be told from its exact bytes.
BLOCK = 1_000_000
PRELUDE = """
import contextvars, threading
import fastalloc
from fastalloc import span, phase, checkpoint
from tests.core.inside import *
def blocks(count): library.churn(RAW, 1_000_000, count)
fastalloc.start()
"""


def of_blocks(size: int) -> int:
    """How many blocks are in `size` bytes; what Python allocated besides must be small."""
    count, rest = divmod(int(size), BLOCK)
    assert rest < BLOCK // 2, f"{rest} bytes that no block explains"
    return count


def run(programs: Programs, body: str):
    """The snapshot that the program leaves."""
    return programs.run(PRELUDE + body + "\nfastalloc.stop()\n").snapshot()


def records(snapshot, kind: str = "span") -> dict[str, list[int]]:
    """Blocks of each finished span (or phase) by name, in the order of their ends."""
    found: dict[str, list[int]] = {}
    for record in snapshot.records[snapshot.records["kind"] == kind]:
        found.setdefault(str(record["name"]), []).append(of_blocks(record["bytes"]))
    return found


def phases(snapshot, of=of_blocks) -> dict[tuple[str, str], int]:
    """Blocks by (span name, phase name)."""
    return {
        (str(p["span_name"]), str(p["name"])): of(p["bytes"]) for p in snapshot.phases if p["name"]
    }

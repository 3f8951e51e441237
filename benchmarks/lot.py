"""Where the heap of a measured process lies: drawn by lot, in launches that say so.

What a profiler imports moves all that is allocated later by the same bytes in each process, and where its blocks lie
alone makes a workload up to 4 % faster or slower, one 19 %. That is an accident, and not what the profiler costs; yet
it is the same in each launch, so no number of launches tells it apart. Drawn by lot it is spread, and its mean none.
"""

from __future__ import annotations

import os
import random

VARIABLE = "BENCHMARK_LOT"
"""The seed. Without it nothing is done: a count of instructions has the same heap each time."""
BLOCKS, BYTES = 3000, 4096
"""At most so many blocks, and their largest; some 750 are kept, 0.4 MiB, at the mean."""


def _scatter(seed: str) -> list[bytes]:
    """Blocks of random sizes, with holes between them for what comes."""
    lot = random.Random(seed)
    blocks = [bytes(int(BYTES ** lot.random())) for _ in range(lot.randrange(BLOCKS))]
    kept = [block for block in blocks if lot.random() < 0.5]
    lot.shuffle(kept)
    return kept


kept_blocks = _scatter(os.environ[VARIABLE]) if VARIABLE in os.environ else []
"""At the import: let it be the first."""

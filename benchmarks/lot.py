"""Where the heap of a measured process lies: drawn by lot, in launches that say so.

What a profiler imports moves all that is allocated later by the same bytes in each process, and where its blocks lie
alone makes a workload up to 4 % faster or slower. That is an accident, and not what the profiler costs; yet it is the
same in each launch, so no number of launches tells it apart. Drawn by lot it is spread, and its mean none. Half of the
blocks are drawn anew before each round, so that a launch has many places: launches of dicts, numpy and pandas then
differ by half of what they did.

Another accident is how much room pymalloc has left when the work begins. json_dumps takes an arena or two from the
system in each round and gives them back, each a fifth of its time: always one after fastalloc's start, which leaves some
room, and mostly two without it. malloc likewise gives large blocks and the end of its heap back again and again, until
a block as large was freed once, which an import may do or not: that is 2 % of sqlite, 5 % beside a second thread, and
numpy's arrays take three times as long. So each process gets room for its work, as one that has run for a while has it.
"""

from __future__ import annotations

import ctypes
import os
import random

VARIABLE = "BENCHMARK_LOT"
"""The seed. Without it nothing is done: a count of instructions has the same heap each time."""
BLOCKS, BYTES = 3000, 4096
"""At most so many blocks with holes between them, and their largest; 0.4 MiB are kept, at the mean."""
ROOM_BYTES, SMALL_BYTES, EVERY_BYTES = 4 << 20, 440, 1 << 18
"""The room, of blocks that pymalloc serves, and how often one is kept: four in each of its arenas of 1 MiB."""
LARGE_BYTES = 24 << 20
"""Of a block that is freed at once, untouched: glibc's malloc keeps what is smaller from then on, and twice as much at
the end of its heap. At most 32 MiB (mallopt(3), M_MMAP_THRESHOLD)."""


def _scatter(seed: str) -> list[bytes]:
    """Blocks of random sizes, with holes between them for what comes."""
    lot = random.Random(seed)
    blocks = [bytes(int(BYTES ** lot.random())) for _ in range(lot.randrange(BLOCKS))]
    kept = [block for block in blocks if lot.random() < 0.5]
    lot.shuffle(kept)
    return kept


def make_room() -> list[bytes]:
    """Arenas that are free but for a few blocks, and stay as long as these are kept. To be called last before the work."""
    if VARIABLE not in os.environ:
        return []
    libc = ctypes.CDLL(None)  # not bytes(): where malloc is another, its calloc may touch them all
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.free(libc.malloc(LARGE_BYTES))
    blocks = [bytes(SMALL_BYTES) for _ in range(ROOM_BYTES // SMALL_BYTES)]
    return blocks[:: EVERY_BYTES // SMALL_BYTES]


kept_blocks = _scatter(os.environ[VARIABLE]) if VARIABLE in os.environ else []
"""At the import: let it be the first."""
_moves = random.Random(os.environ.get(VARIABLE, ""))


def move() -> None:
    """Draw anew: half of the blocks go, and as many of other sizes come, so that what is allocated next lies elsewhere."""
    for at in _moves.sample(range(len(kept_blocks)), len(kept_blocks) // 2):
        kept_blocks[at] = bytes(int(BYTES ** _moves.random()))

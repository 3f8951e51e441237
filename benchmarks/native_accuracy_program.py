"""Holds memory of one C library by line, and prints it: `... PROFILER LIBRARY SEED SCRATCH`.

One JSON object, by line of the library's function: [bytes, one standard error]. PROFILER "memray" is the truth,
exact: all allocators, Python's too, read by its own reader; "fastalloc" the estimate. What is held depends on
LIBRARY and SEED alone, so that two processes hold the same.
"""

from __future__ import annotations

import glob
import importlib
import json
import linecache
import os
import random
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL_BYTES = 64 * 1024


def hold_numpy(chance: random.Random) -> object:
    """Arrays of 8 to 160 KB, also joined, sliced into copies, and grown."""
    import numpy as np

    arrays = [np.ones(chance.randrange(1_000, 20_000)) for _ in range(150)]
    joined = [np.concatenate(arrays[at : at + 3]) for at in range(0, 60, 3)]
    copies = [array[::2].copy() for array in arrays]
    grown = [np.resize(array, chance.randrange(20_000, 30_000)) for array in arrays[:40]]
    for _ in range(20):  # made and dropped: it must not show
        np.ones(chance.randrange(1_000, 200_000))
    return arrays, joined, copies, grown


def hold_pandas(chance: random.Random) -> object:
    """Frames, and what comes of joining and grouping them."""
    import numpy as np
    import pandas as pd

    numbers = np.array([chance.randrange(1000) for _ in range(60_000)])
    frames = [pd.DataFrame({"key": numbers % n, "value": numbers * 1.5}) for n in range(50, 60)]
    joined = [frame.merge(frame.iloc[:800], on="key") for frame in frames[:3]]
    sorted_ = [frame.sort_values("value") for frame in frames]
    sums = [frame.groupby("key").transform("sum") for frame in frames]
    return numbers, frames, joined, sorted_, sums


def hold_pillow(chance: random.Random) -> object:
    """Images, scaled and turned."""
    from PIL import Image

    sizes = [(chance.randrange(60, 300), chance.randrange(60, 300)) for _ in range(60)]
    images = [Image.new("RGB", size, (9, 9, 9)) for size in sizes]
    scaled = [image.resize((image.width // 2, image.height // 2)) for image in images]
    turned = [image.rotate(90, expand=True) for image in images]
    grey = [image.convert("L") for image in images]
    return images, scaled, turned, grey


def hold_lxml(chance: random.Random) -> object:
    """Trees, parsed and copied."""
    import copy

    from lxml import etree

    rows = [f"<row><a>{n}</a><b>{'word ' * 12}</b></row>" for n in range(300)]
    texts = [f"<t>{''.join(rows[: chance.randrange(100, 300)])}</t>" for _ in range(50)]
    trees = [etree.fromstring(text) for text in texts]
    copies = [copy.deepcopy(tree) for tree in trees[:30]]
    return texts, trees, copies


def hold_sqlite(chance: random.Random) -> object:
    """Databases in memory, filled and indexed."""
    import sqlite3

    count = [chance.randrange(3_000, 6_000) for _ in range(8)]
    bases = [sqlite3.connect(":memory:") for _ in count]
    for base, rows in zip(bases, count, strict=True):
        base.execute("create table item (id integer primary key, kind int, name text)")
        items = [(n, n % 99, f"name {n}" * 9) for n in range(rows)]
        base.executemany("insert into item values (?, ?, ?)", items)
        base.execute("create index by_name on item (name)")
    return bases


IMPORTS = {
    "numpy": ["numpy"],
    "pandas": ["pandas"],
    "pillow": ["PIL.Image", "PIL.BmpImagePlugin"],
    "lxml": ["lxml.etree"],
    "sqlite": ["sqlite3"],
}
"""Imported before: what an import takes depends on what is there already, memray's own modules or fastalloc's."""
LIBRARIES: dict[str, Callable[[random.Random], object]] = {
    "numpy": hold_numpy,
    "pandas": hold_pandas,
    "pillow": hold_pillow,
    "lxml": hold_lxml,
    "sqlite": hold_sqlite,
}
Answer = dict[str, tuple[float, float]]


def _label(line: int) -> str:
    """A line's own text: numbers move."""
    return linecache.getline(__file__, line).strip()[:60]


def _line_of(stack: list[tuple[str, int]], function: Callable[[random.Random], object]) -> str:
    """Where the stack, leaf first, stands in the function: its code, or that of a comprehension in it."""
    first = function.__code__.co_firstlineno
    last = max(line for _, _, line in function.__code__.co_lines() if line)
    for path, line in stack:
        if path.endswith("native_accuracy_program.py") and first <= line <= last:
            return _label(line)
    return ""


def _with_fastalloc(function: Callable[[random.Random], object], seed: int, scratch: str) -> Answer:
    import fastalloc

    fastalloc.start(
        "light",
        interval_bytes=INTERVAL_BYTES,
        native=True,
        overhead_percent=0,
        dir=os.path.join(scratch, "recordings"),
    )
    if not fastalloc.status().native:
        raise RuntimeError(f"native memory is not recorded: {fastalloc.status().native_reason}")
    held = function(random.Random(seed))
    snapshot = fastalloc.snapshot()
    del held
    found: dict[str, list[float]] = {}
    for site, size, weight in snapshot.live[["site", "size", "weight"]].tolist():
        stack = [(frame.file, frame.line) for frame in snapshot.stack(site)]
        sums = found.setdefault(_line_of(stack, function), [0.0, 0.0])
        sums[0] += weight
        sums[1] += weight * (weight - size)
    return {label: (size, variance**0.5) for label, (size, variance) in found.items() if label}


def _with_memray(function: Callable[[random.Random], object], seed: int, scratch: str) -> Answer:
    import memray

    path = os.path.join(scratch, "memray.bin")
    # Aggregated: of a stack that several allocators serve, the other kind tells only one.
    with memray.Tracker(
        destination=memray.FileDestination(path),
        trace_python_allocators=True,
        file_format=memray.FileFormat.AGGREGATED_ALLOCATIONS,
    ):
        held = function(random.Random(seed))
    found: dict[str, float] = {}
    for record in memray.FileReader(glob.glob(path)[0]).get_leaked_allocation_records():
        stack = [(file, line) for _, file, line in record.stack_trace()]
        label = _line_of(stack, function)
        found[label] = found.get(label, 0.0) + record.size
    del held
    return {label: (size, 0.0) for label, size in found.items() if label}


PROFILERS = {"fastalloc": _with_fastalloc, "memray": _with_memray}


def main(profiler: str, library: str, seed: str, scratch: str) -> None:
    """Print the answer."""
    for name in IMPORTS[library]:
        importlib.import_module(name)
    print(json.dumps(PROFILERS[profiler](LIBRARIES[library], int(seed), scratch)))


if __name__ == "__main__":
    main(*sys.argv[1:])

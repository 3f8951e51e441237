"""The garbage collector's objects are counted by its own lists, wherever this interpreter keeps them."""

from __future__ import annotations

import sys

from tests.core.programs import Programs
from tests.dumps.states import PRELUDE


def test_all_objects_are_counted_those_of_each_generation_and_frozen_ones(
    programs: Programs,
) -> None:
    done = programs.run(
        PRELUDE
        + """
from fastalloc import _core
class Kept: pass
fastalloc.start()
fastalloc.dumps.prepare()
gc.disable()
kept = [Kept() for _ in range(1000)]
gc.freeze()
for _ in range(3):
    kept += [Kept() for _ in range(1000)]
    gc.collect(1)
kept += [Kept() for _ in range(1000)]
everything = len(gc.get_objects()) + gc.get_freeze_count()
rows, seen, complete, _ = _core.count_objects((), 10.0, 100)
answer(kept=dict(rows)["__main__.Kept"], seen=seen, complete=complete,
       all=everything, writes=_core.counting_writes())
"""
    )
    assert done.answer["kept"] == 5000 and done.answer["complete"]
    # The expressions between the two looks make and end a few.
    assert abs(done.answer["seen"] - done.answer["all"]) < 50
    assert done.answer["writes"] == (sys.version_info >= (3, 14))


def test_where_they_are_not_found_a_dump_says_so(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
from fastalloc import _core
fastalloc.start()
_core.count_objects = lambda *asked: None
answer(objects=state_of(fastalloc.write_dump())["objects"])
"""
    )
    objects = done.answer["objects"]
    assert objects["items"] == [] and not objects["complete"]
    assert objects["skipped"] == "this build of CPython keeps them in an unknown place"

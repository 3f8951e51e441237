"""Each sample carries the stack it was made in: qualified names, files, the very lines."""

from __future__ import annotations

import pytest

from tests.core.programs import Programs

# `mark(n)` allocates n bytes that no one else does; `stacks` tells the stack of each size.
PRELUDE = """
import ctypes
import fastalloc
from tests.core.inside import *
from tests.core import inside

def mark(size):
    library.allocate(RAW, size)

def stacks():
    snapshot = fastalloc.snapshot()
    found = {}
    for sample in snapshot.live:
        if 1_000_000 <= sample["size"] < 1_001_000:
            frames = [[f.function, f.file, f.line] for f in snapshot.stack(int(sample["site"]))]
            found[int(sample["size"]) - 1_000_000] = frames
    return found

M = 1_000_000
fastalloc.start("targeted")
"""
LINES = PRELUDE.count("\n")


def run(programs: Programs, body: str) -> dict[int, list[tuple[str, int]]]:
    """Stacks by mark: (function, line of the body) from the leaf, below `mark` itself."""
    done = programs.run(PRELUDE + body + "\nanswer(stacks=stacks())\n")
    return {
        int(size): [
            (function, line - LINES) for function, file, line in frames if file == "<string>"
        ][1:]
        for size, frames in done.answer["stacks"].items()
    }


def test_functions_methods_and_nested_functions_have_qualified_names(programs: Programs) -> None:
    stacks = run(
        programs,
        """\
class Outer:
    class Inner:
        def method(self):
            mark(M + 1)
        @staticmethod
        def static():
            mark(M + 2)
        @classmethod
        def of_class(cls):
            mark(M + 3)
        @property
        def shown(self):
            mark(M + 4)
    mark(M + 5)
def outer():
    def inner():
        mark(M + 6)
    inner()
Outer.Inner().method(); Outer.Inner.static(); Outer.Inner.of_class(); Outer.Inner().shown
outer()
(lambda: mark(M + 7))()
""",
    )
    assert stacks == {
        1: [("Outer.Inner.method", 4), ("<module>", 19)],
        2: [("Outer.Inner.static", 7), ("<module>", 19)],
        3: [("Outer.Inner.of_class", 10), ("<module>", 19)],
        4: [("Outer.Inner.shown", 13), ("<module>", 19)],
        5: [("Outer", 14), ("<module>", 1)],
        6: [("outer.<locals>.inner", 17), ("outer", 18), ("<module>", 20)],
        7: [("<lambda>", 21), ("<module>", 21)],
    }


def test_the_line_is_that_of_the_call_in_statements_over_many_lines(programs: Programs) -> None:
    stacks = run(
        programs,
        """\
def f(a, b, c=None):
    return a
def g(size):
    return mark(size)
f(
    g(M + 1),
    g(
        M + 2),
    c=
      g(M + 3),
)
x = {
    "a": g(M + 4),

    "b": [
        g(M + 5),
    ],
}
if (False or
        g(M + 6) or
        True):
    g(M + 7)
for i in (
    M + 8,
    M + 9,
): g(i)
try:
    g(M + 10)
    raise ValueError
except ValueError:
    g(M + 11)
finally:
    g(M + 12)
with open("/dev/null") as f: g(M + 13)
assert True, g(M + 14)
""",
    )
    lines = {size: frames[1][1] for size, frames in stacks.items()}
    assert {size: frames[0] for size, frames in stacks.items()} == dict.fromkeys(lines, ("g", 4))
    assert lines == {
        **{1: 6, 2: 7, 3: 10, 4: 13, 5: 16, 6: 20, 7: 22, 8: 26, 9: 26},
        **{10: 28, 11: 31, 12: 33, 13: 34},
    }


def test_generators_comprehensions_and_coroutines_show_who_runs_them(programs: Programs) -> None:
    stacks = run(
        programs,
        """\
import asyncio
def numbers():
    yield 1
    mark(M + 1)
    yield from deeper()
def deeper():
    mark(M + 2)
    yield 2
def consume():
    for _ in numbers():
        pass
consume()
s = {mark(M + 3) for _ in range(1)}
g = (mark(M + 4) for _ in range(1))
def drain(it):
    for _ in it: pass
drain(g)
async def leaf():
    mark(M + 5)
    await asyncio.sleep(0)
    mark(M + 6)
async def trunk():
    await leaf()
async def items():
    mark(M + 7)
    yield 1
async def main():
    await asyncio.create_task(trunk())
    async for _ in items(): pass
asyncio.run(main())
""",
    )
    assert stacks[1] == [("numbers", 4), ("consume", 10), ("<module>", 12)]
    assert stacks[2] == [("deeper", 7), ("numbers", 5), ("consume", 10), ("<module>", 12)]
    # From 3.12 on comprehensions are part of the function around them.
    assert [frame for frame in stacks[3] if frame[0] != "<setcomp>"] == [("<module>", 13)]
    assert stacks[4] == [("<genexpr>", 14), ("drain", 16), ("<module>", 17)]
    assert stacks[5][:2] == [("leaf", 19), ("trunk", 23)]
    assert stacks[6][:2] == [("leaf", 21), ("trunk", 23)]
    assert stacks[7][:2] == [("items", 25), ("main", 29)]
    assert all(stack[-1] == ("<module>", 30) for stack in (stacks[5], stacks[6], stacks[7]))


def test_decorators_callbacks_from_c_and_special_methods_are_seen(programs: Programs) -> None:
    stacks = run(
        programs,
        """\
import functools
def loud(f):
    @functools.wraps(f)
    def wrapper(*a):
        return f(*a)
    return wrapper
@loud
def shout(size):
    mark(size)
shout(M + 1)
sorted([2, 1], key=lambda n: mark(M + 1 + n) or n)
class Thing:
    def __init__(self): mark(M + 4)
    def __del__(self): mark(M + 5)
    def __eq__(self, other): mark(M + 6)
def use():
    Thing() == 1
use()
functools.reduce(lambda a, b: mark(M + 7), [1, 2])
exec("mark(M + 8)")
""",
    )
    assert stacks[1] == [("shout", 9), ("loud.<locals>.wrapper", 5), ("<module>", 10)]
    assert stacks[2] == stacks[3] == [("<lambda>", 11), ("<module>", 11)]
    assert stacks[4] == [("Thing.__init__", 13), ("use", 17), ("<module>", 18)]
    assert stacks[5][:2] == [("Thing.__del__", 14), ("use", 17)]
    assert stacks[6] == [("Thing.__eq__", 15), ("use", 17), ("<module>", 18)]
    assert stacks[7] == [("<lambda>", 19), ("<module>", 19)]
    assert stacks[8][1:] == [("<module>", 20)]


def test_a_stack_deeper_than_max_frames_keeps_its_leaves_and_says_so(programs: Programs) -> None:
    done = programs.run(
        """
        import sys
        import fastalloc
        from tests.core.inside import *

        sys.setrecursionlimit(5000)
        fastalloc.start(interval_bytes=1, max_frames=20, scale=8)
        def down(n):
            if n == 0:
                library.allocate(RAW, 1_000_000)
            else:
                down(n - 1)
        down(3000)
        fastalloc.stop()
        """
    )
    snapshot = done.snapshot()
    (sample,) = snapshot.live[snapshot.live["size"] == 1_000_000]
    stack = snapshot.stack(int(sample["site"]))
    assert [frame.function for frame in stack[:20]] == ["down"] * 20
    assert len(stack) == 21
    assert "cut" in stack[20].function
    assert snapshot.losses["deep_stack"] > 0


def test_names_beyond_ascii_and_surrogates_are_kept_or_replaced(programs: Programs) -> None:
    done = programs.run(
        """
        import fastalloc
        from tests.core.inside import *
        fastalloc.start("targeted")
        def mark(n): library.allocate(RAW, n)
        codes = []  # kept: see the test of code at the address of dead code
        def run(code):
            codes.append(code)
            exec(code, {"mark": mark})
        run(compile("def größe():\\n  mark(1_000_001)\\ngröße()", "/tmp/grüße/日本語.py", "exec"))
        run(compile("class 数:\\n  def 長さ(self): mark(1_000_002)\\n数().長さ()", "x\\U0001f40d.py", "exec"))
        run(compile("mark(1_000_003)", "bad\\udcff name.py", "exec"))
        code = compile("mark(1_000_004)", "f.py", "exec")
        run(code.replace(co_name="a" * 3000, co_qualname="é" * 3000, co_filename="/" + "ü" * 5000))
        run(code.replace(co_consts=tuple(1_000_005 if c == 1_000_004 else c for c in code.co_consts),
                          co_qualname="", co_filename=""))
        run(code.replace(co_consts=tuple(1_000_006 if c == 1_000_004 else c for c in code.co_consts),
                          co_qualname="nul\\0inside", co_filename="nul\\0file"))
        fastalloc.stop()
        """
    )
    snapshot = done.snapshot()
    stack = {
        int(s["size"]) - 1_000_000: snapshot.stack(int(s["site"]))[1]
        for s in snapshot.live
        if 1_000_000 < s["size"] < 1_000_100
    }
    assert stack[1][:] == ("größe", "/tmp/grüße/日本語.py", 2)
    assert stack[2][:] == ("数.長さ", "x\U0001f40d.py", 2)
    assert stack[3].file == "bad\ufffd name.py"
    assert stack[4].function.strip("é") == "" and 200 < len(stack[4].function) < 300
    assert stack[4].file.strip("/ü") == ""
    assert stack[5].line == 1
    assert stack[6].function == "nul\ufffdinside"


def code_objects_one_after_another(
    programs: Programs, interval: int, *, before: str = "", each: str = "pass", after: str = ""
) -> dict[str, object]:
    """4,000 code objects, many at the address of an earlier one, each of which allocates at a line of its
    own. `each`, `after`: what is done before each, as i, and at the end. Checks that no sample has another's line."""
    done = programs.run(
        f"""
        import ctypes
        import fastalloc
        from tests.core.inside import *
        # Where CPython keeps the destructor of a type: behind its head, its name and two sizes.
        destructor = ctypes.c_void_p.from_address(id(type(compile("", "", "exec"))) + 6 * 8)
        {before}
        fastalloc.start(interval_bytes={interval}, scale=16)
        kept, addresses, codes = [], set(), []
        def one(i):
            source = "\\n" * (i % 50) + "kept.append(bytes(5000))\\n"
            code = compile(source, f"<source {{i:04d}}>", "exec")
            addresses.add(id(code))
            exec(code, {{"kept": kept}})
            codes.append(code)
            del codes[:-100]
        for i in range(4000):
            {each}
            one(i)
        fastalloc.stop()
        told = {{}}
        {after}
        answer(made={{id(block): i for i, block in enumerate(kept)}}, addresses=len(addresses), **told)
        """
    )
    assert done.answer["addresses"] < 3500  # else nothing was tested
    snapshot = done.snapshot()
    wrong, right = [], 0
    for sample in snapshot.live[snapshot.live["size"] == 5033]:
        i = done.answer["made"].get(str(sample["address"]))
        if i is None:
            continue
        leaf = snapshot.stack(int(sample["site"]))[0]
        expected = (f"<source {i:04d}>", i % 50 + 1)
        if (leaf.file, leaf.line) == expected:
            right += 1
        else:
            wrong.append((leaf, expected))
    assert right > 1000
    assert wrong == []
    return dict(done.answer)


@pytest.mark.parametrize("interval", [1, 3000])
def test_code_at_the_address_of_dead_code_is_told_from_it(
    programs: Programs, interval: int
) -> None:
    code_objects_one_after_another(programs, interval)


def test_it_is_where_another_tool_takes_the_destructor_away(programs: Programs) -> None:
    code_objects_one_after_another(
        programs,
        1,
        before="theirs = destructor.value",
        each="if i == 2000: destructor.value = theirs",
    )


def test_it_is_after_times_without_hooks(programs: Programs) -> None:
    code_objects_one_after_another(
        programs,
        1,
        each="if i in (500, 1000, 1500): fastalloc.disable(); codes.clear(); fastalloc.enable()",
    )


def test_the_destructor_of_code_objects_is_put_back(programs: Programs) -> None:
    told = code_objects_one_after_another(
        programs,
        1,
        before="theirs = destructor.value",
        each="ours = destructor.value",
        after="told = dict(put_back=destructor.value == theirs, was_ours=ours != theirs)",
    )
    assert told["put_back"] and told["was_ours"]


def test_threads_and_thread_pools_have_their_own_stacks(programs: Programs) -> None:
    stacks = run(
        programs,
        """\
import threading
from concurrent.futures import ThreadPoolExecutor
def work(size):
    mark(size)
thread = threading.Thread(target=work, args=(M + 1,))
thread.start(); thread.join()
with ThreadPoolExecutor(2) as pool:
    pool.submit(work, M + 2).result()
import _thread, time
_thread.start_new_thread(work, (M + 3,))
time.sleep(0.2)
""",
    )
    assert stacks == {1: [("work", 4)], 2: [("work", 4)], 3: [("work", 4)]}


def test_a_thread_without_python_has_no_stack_and_is_counted_as_such(programs: Programs) -> None:
    done = programs.run(
        """
        import fastalloc
        from tests.core.inside import *
        fastalloc.start("targeted")
        before = fastalloc.snapshot().losses["no_stack"]
        library_without_gil.churn_in_foreign_thread(1_000_000, 50)
        after = fastalloc.snapshot()
        answer(no_stack=after.losses["no_stack"] - before,
               freed=int((after.freed["size"] == 1_000_000).sum()))
        """
    )
    assert done.answer == {"no_stack": 50, "freed": 50}

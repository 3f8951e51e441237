"""What each profiler says of a known heap: the sums of the table, and the reader of those that upload."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from benchmarks import accuracy


def run(*found: float) -> dict[str, Any]:
    """One run: two lines of 100 bytes each."""
    return {"truth": {"1": 100, "2": 100}, "found": dict(zip("12", found, strict=True))}


def document(**runs: list[dict[str, Any]]) -> dict[str, Any]:
    return {"interpreter": {"label": "this"}, "runs": runs}


def test_the_error_by_line_does_not_cancel_out_and_its_spread_is_told() -> None:
    runs = [run(100, 100), run(110, 90), run(120, 80), run(130, 70), run(140, 60)]
    exact = {"unreadable": "no live heap"}
    rows = accuracy.table([document(light=[*runs, {"failed": "x"}], fil=[exact])]).rows
    told = {row[0]: list(row[1:]) for row in rows}
    assert told["fastalloc light, 512 KiB"] == [
        "20.0 % (10.0-30.0)",
        "0.0 % (0.0-0.0)",
        "5 runs, 1 failed",
    ]
    assert told["Fil"] == ["-", "-", "not readable: no live heap"]


def test_a_profile_is_read_by_the_innermost_line_of_the_program() -> None:
    pytest.importorskip("google.protobuf")
    from benchmarks import pprof

    texts = ["", "heap-space", "/x/program.py", "/x/library.py", "alloc-space"]
    profile = pprof.CLASSES["Profile"](string_table=texts)
    for kind in (4, 1):
        profile.sample_type.add(type=kind)
    for number, file in ((1, 2), (2, 3)):
        profile.function.add(id=number, filename=file)
    for number, function, line in ((1, 2, 5), (2, 1, 7), (3, 1, 9)):
        profile.location.add(id=number).line.add(function_id=function, line=line)
    profile.sample.add(location_id=[1, 2, 3], value=[1, 10])  # library, line 7, line 9
    profile.sample.add(location_id=[3], value=[2, 30])
    profile.sample.add(location_id=[1], value=[4, 50])  # nothing of the program
    content = profile.SerializeToString()

    assert pprof.by_line(content, "heap-space", "program.py") == {7: 10.0, 9: 30.0}
    assert pprof.by_line(gzip.compress(content), "alloc-space", "program.py") == {7: 1.0, 9: 2.0}
    assert pprof.by_line(content, "inuse_space", "program.py") is None
    pushed = pprof.CLASSES["PushRequest"]()
    pushed.series.add().samples.add(raw_profile=content)
    assert pprof.pushed(gzip.compress(pushed.SerializeToString())) == [content]

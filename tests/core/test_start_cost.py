"""What import and start cost an interpreter that has nothing loaded: memory, and other people's modules."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fastalloc.logs import quote
from tests.core.programs import ROOT, Programs

# 2 MiB on 3.11, for which it is promised. From 3.12 on the same modules take some 20 KiB more.
LIMIT_BYTES = (2 << 20) + (0 if sys.version_info < (3, 12) else 128 << 10)
PROCESSES = 5
SCRIPT = ROOT / "benchmarks" / "bare_start.py"

pytestmark = pytest.mark.skipif(not SCRIPT.exists(), reason="benchmarks/ is not here")


def test_import_and_start_take_some_two_mebibytes_at_most(programs: Programs) -> None:
    environment = programs.environment(programs.base, {"PYTHONDONTWRITEBYTECODE": ""})
    command = [sys.executable, "-P", str(SCRIPT), "light", str(programs.base)]
    found = []
    for _ in range(PROCESSES + 1):
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout))
    # The first may compile bytecode. Between processes the numbers differ by some 60 KiB, as allocators and
    # the kernel have it; a module more takes 10 KiB at least and a library 30, so the median of five tells.
    median = statistics.median(each["own_bytes"] for each in found[1:])
    assert median <= LIMIT_BYTES
    assert median > 512 << 10, "no such small start: nothing was measured"
    assert not found[-1]["third_party"]


@given(st.text())
@example('a "quoted" \\ text')
@example("\x7f\n\ud800 é \U0001f600")
def test_a_text_is_quoted_as_json_does(text: str) -> None:
    assert json.loads(quote(text)) == text
    assert quote(text).isascii()

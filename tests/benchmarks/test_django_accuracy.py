"""The lines that hold most of a Django application's memory: our estimate against memray's exact answer."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from pathlib import Path

import pytest
from benchmarks.interpreters import ROOT, environment

INTERVAL_BYTES = 64 * 1024  # aggressive mode's
TEN = 10

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, float], dict[str, float]]:
    """Bytes by line: exact, estimated."""
    pytest.importorskip("django")
    pytest.importorskip("memray")
    folder = tmp_path_factory.mktemp("shop")
    variables = environment(
        SHOP_DATABASE=str(folder / "shop.sqlite3"),
        SHOP_SECRET_KEY=secrets.token_hex(),
        SHOP_ADMIN_PASSWORD=secrets.token_hex(),
        PYTHONHASHSEED="1",
    )
    populate = [sys.executable, "-m", "fastalloc.demo.shop.populate"]
    subprocess.run(populate, env=variables, check=True)
    exact, estimated = (_ask(each, folder, variables) for each in ("memray_python", "aggressive"))
    return exact, estimated


def _ask(profiler: str, folder: Path, variables: dict[str, str]) -> dict[str, float]:
    command = [
        sys.executable,
        *("-m", "benchmarks.django_accuracy_program", profiler, str(folder)),
    ]
    done = subprocess.run(
        command, cwd=ROOT, env=variables, check=True, stdout=subprocess.PIPE, text=True
    )
    return {line: size for line, (size, _) in json.loads(done.stdout).items()}


def largest(by_line: dict[str, float]) -> list[str]:
    return sorted(by_line, key=by_line.__getitem__, reverse=True)[:TEN]


def test_eight_of_memrays_top_ten_lines_are_in_ours(
    answers: tuple[dict[str, float], dict[str, float]],
) -> None:
    exact, estimated = answers
    # The ninth line holds 1.2 MiB, known to 0.27; what could push it out, the eleventh and those that follow,
    # holds 0.87, 0.77 and 0.70. That the tenth goes is usual, and that a third goes needs three of them to be two
    # standard errors and more too high at once: less than one run in ten thousand.
    assert len(exact) > 100
    assert len({*largest(exact)} & {*largest(estimated)}) >= TEN - 2


def test_each_of_these_lines_is_within_four_standard_errors(
    answers: tuple[dict[str, float], dict[str, float]],
) -> None:
    exact, estimated = answers
    # The variance of a line's estimate is the sum of size * (weight - size) over its blocks, and so at most its
    # bytes times the interval. Four standard errors: one of ten lines is beyond that in 1,600 runs, and a line that is
    # missed or counted twice is off by four and more, since ten lines hold a mebibyte each and that is 16 intervals.
    # One percent besides: the two processes do not hold the same to the byte.
    far = {
        line: (exact[line], estimated.get(line, 0.0))
        for line in largest(exact)
        if abs(estimated.get(line, 0.0) - exact[line])
        > 4 * (exact[line] * INTERVAL_BYTES) ** 0.5 + exact[line] / 100
    }
    assert not far
    total, ours = sum(exact.values()), sum(estimated.values())
    assert abs(ours - total) <= 4 * (total * INTERVAL_BYTES) ** 0.5 + total / 100

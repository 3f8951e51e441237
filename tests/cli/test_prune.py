"""fastalloc prune: what it deletes, what it says."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Command, shop_recording


@pytest.fixture
def old(tmp_path: Path) -> list[Path]:
    """Three recordings, 5, 4 and 3 days old."""
    paths = []
    for pid in (1, 2, 3):
        path = tmp_path / f"fastalloc-{pid}-1700000000000.recording"
        shop_recording(pid).write(path)
        os.utime(path, (time.time() - (6 - pid) * 86400,) * 2)
        paths.append(path)
    return paths


def test_it_deletes_what_is_beyond_the_bounds_and_says_why(
    fastalloc: Command, tmp_path: Path, old: list[Path]
) -> None:
    done = fastalloc("prune", tmp_path, "--keep-count", 1)
    assert done.status == 0
    assert f"recording {old[0]}" in done.out and "(keep_count)" in done.out
    assert "2 of 3 in" in done.out and " deleted, " in done.out
    assert list(tmp_path.iterdir()) == [old[2]]


def test_a_dry_run_says_it_and_deletes_nothing(
    fastalloc: Command, tmp_path: Path, old: list[Path]
) -> None:
    done = fastalloc("prune", tmp_path, "--keep-days", 4, "--dry-run", "--json")
    assert done.status == 0
    assert [Path(item["path"]) for item in done.json["removed"]] == old[:2]
    assert done.json["removed"][0]["reason"] == "keep_days"
    assert done.json["removed_bytes"] == sum(item["bytes"] for item in done.json["removed"]) > 0
    assert all(path.exists() for path in old)


def test_the_environment_sets_bounds_too(
    fastalloc: Command, tmp_path: Path, old: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTALLOC_DIR", str(tmp_path))
    monkeypatch.setenv("FASTALLOC_KEEP_COUNT", "2")
    assert fastalloc("prune").status == 0
    assert not old[0].exists() and old[1].exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [(("--keep-bytes", "much"), "no whole number"), (("/nowhere",), "there is no such folder")],
)
def test_bad_input_is_said_in_one_line(
    fastalloc: Command, arguments: tuple[str, ...], reason: str
) -> None:
    done = fastalloc("prune", *arguments)
    assert done.status == 2
    assert reason in done.err and len(done.err.splitlines()) == 1

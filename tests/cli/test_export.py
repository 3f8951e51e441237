"""`fastalloc export` and `fastalloc flamegraph`."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.conftest import MIB, Command


@pytest.mark.parametrize("kind", ["aggregated", "all"])
def test_memray_opens_what_is_exported(
    fastalloc: Command, recording: Path, tmp_path: Path, kind: str
) -> None:
    memray = pytest.importorskip("memray")
    file = tmp_path / "shop.bin"
    outcome = fastalloc("export", recording, "--kind", kind, "-o", file)
    assert outcome.status == 0
    assert str(file) in outcome.out
    reader = memray.FileReader(file)
    assert reader.metadata.pid == 4242
    records = list(reader.get_leaked_allocation_records(merge_threads=True))
    assert "load_orders" in {record.stack_trace()[0][0] for record in records}


def test_json_names_the_file(fastalloc: Command, recording: Path, tmp_path: Path) -> None:
    file = tmp_path / "shop.bin"
    outcome = fastalloc("export", recording, "--memray-version", "1.20.0", "-o", file, "--json")
    assert outcome.json == {
        "output": str(file),
        "bytes": file.stat().st_size,
        "recording": str(recording),
    }


@pytest.mark.parametrize("arguments", [("--memray-version", "0.1"), ("--memray-version", "soon")])
def test_an_unknown_memray_is_an_error_of_one_line(
    fastalloc: Command, recording: Path, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    outcome = fastalloc("export", recording, "-o", tmp_path / "x.bin", *arguments)
    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 1
    assert not (tmp_path / "x.bin").exists()


def test_a_folder_that_is_not_there_is_an_error_of_one_line(
    fastalloc: Command, recording: Path, tmp_path: Path
) -> None:
    pytest.importorskip("memray")
    outcome = fastalloc("export", recording, "-o", tmp_path / "none" / "x.bin")
    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 1


def test_the_flame_graph_is_a_page_with_our_functions(
    fastalloc: Command, recording: Path, tmp_path: Path
) -> None:
    pytest.importorskip("memray")
    page = tmp_path / "shop.html"
    outcome = fastalloc("flamegraph", recording, "--leaks", "--frame", "span", "-o", page)
    assert outcome.status == 0, outcome.err
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>") or "<html" in text[:200]
    assert "load_orders" in text


def test_the_flame_graph_is_named_after_its_recording_and_overwrites_nothing(
    fastalloc: Command, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("memray")
    monkeypatch.chdir(tmp_path)
    page = tmp_path / f"memray-flamegraph-{recording.stem}.html"
    outcome = fastalloc("flamegraph", recording, "--json")
    assert outcome.json["output"] == page.name
    page.write_text("mine")
    for arguments in ((recording,), (recording, "-o", page)):
        outcome = fastalloc("flamegraph", *arguments)
        assert outcome.status == 2 and len(outcome.err.splitlines()) == 1
        assert page.name in outcome.err and page.read_text() == "mine"
    assert fastalloc("flamegraph", recording, "--force").status == 0
    assert "load_orders" in page.read_text()


def test_a_progress_bar_appears_only_for_what_takes_long(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fastalloc.cli.output import ProgressBar

    with ProgressBar("quick") as bar:
        bar.update(1, 2)
    assert bar._progress is None

    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(ProgressBar, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    with ProgressBar("slow") as bar:
        bar.update(MIB // 2, MIB)
    assert "slow" in capsys.readouterr().err

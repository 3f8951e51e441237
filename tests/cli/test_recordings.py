"""What RECORDING may be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.cli.conftest import Command, shop_recording


def test_a_path_names_its_file(fastalloc: Command, recording: Path) -> None:
    assert fastalloc("top", recording, "--json").json["path"] == str(recording)


def test_a_pid_names_the_newest_recording_of_its_process(
    fastalloc: Command, folder: Path, recording: Path
) -> None:
    assert fastalloc("top", "4242", "--dir", folder, "--json").json["path"] == str(recording)


def test_nothing_names_the_newest_recording_of_all(fastalloc: Command, folder: Path) -> None:
    assert fastalloc("top", "--dir", folder, "--json").json["pid"] == 5151


def test_a_dumps_folder_names_the_recording_in_it(fastalloc: Command, tmp_path: Path) -> None:
    dump = shop_recording(pid=77).write_dump(tmp_path / "dump", reason="manual")
    assert fastalloc("top", dump, "--json").json["pid"] == 77


def test_the_folder_is_that_of_the_environment(
    fastalloc: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FASTALLOC_DIR", str(folder))
    assert fastalloc("top", "--json").json["pid"] == 5151


def test_a_file_called_like_a_pid_is_a_file(
    fastalloc: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop_recording(pid=77).write(tmp_path / "4242")
    monkeypatch.chdir(tmp_path)
    assert fastalloc("top", "4242", "--json").json["pid"] == 77


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("9999", "no recording of process 9999"),
        ("no-such-file", "no such file or folder"),
    ],
)
def test_what_is_not_there_is_said_in_one_line(
    fastalloc: Command, folder: Path, name: str, complaint: str
) -> None:
    outcome = fastalloc("info", name, "--dir", folder)
    assert outcome.status == 2
    assert complaint in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_an_empty_folder_has_no_newest_recording(fastalloc: Command, tmp_path: Path) -> None:
    outcome = fastalloc("top", "--dir", tmp_path)
    assert outcome.status == 2
    assert "no recording in" in outcome.err


@pytest.mark.parametrize("uid", [os.getuid(), 54321])
def test_recordings_in_the_folder_inside_a_shared_one_are_found(
    fastalloc: Command, folder: Path, tmp_path: Path, uid: int
) -> None:
    shared = tmp_path / "volume"
    shared.mkdir()
    shared.chmod(0o1777)
    folder.rename(shared / f"fastalloc-{uid}")
    for arguments in (("status", "--dir"), ("prune", "--dry-run"), ("post-mortem",)):
        answer = fastalloc(*arguments, shared, "--json").json
        assert answer["directory"] == str(shared / f"fastalloc-{uid}")
    assert len(fastalloc("status", "--dir", shared, "--json").json["recordings"]) == 3
    assert "4242" in fastalloc("info", "4242", "--dir", shared).out


def test_a_link_in_a_shared_folder_is_not_followed(
    fastalloc: Command, folder: Path, tmp_path: Path
) -> None:
    shared = tmp_path / "volume"
    (shared / "123").mkdir(parents=True)
    shared.chmod(0o1777)
    for uid in (os.getuid(), 54321):
        link = shared / f"fastalloc-{uid}"
        link.symlink_to(folder)
        assert fastalloc("status", "--dir", shared, "--json").json["recordings"] == []
        link.unlink()

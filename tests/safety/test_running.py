"""The control word is written into a running process's recording, and into nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fastalloc.recording.errors import RecordingError
from fastalloc.recording.layout import HEADER, Control
from fastalloc.recording.running import Running, disable
from tests.safety.service import Service


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with Service(tmp_path_factory.mktemp("safety") / "recordings") as running:
        yield running


def refused(path: Path) -> str:
    """The one line with which `path` is refused. Its control word stays as it was, and its size."""

    def word() -> tuple[int, bytes]:
        offset = HEADER.fields["control"][1]
        return path.stat().st_size, path.read_bytes()[offset : offset + 4]

    before = word() if path.is_file() else None
    with pytest.raises(RecordingError) as raised:
        disable(path)
    assert before is None or word() == before
    message = str(raised.value)
    assert "\n" not in message and str(path) in message
    return message


def test_a_running_recording_is_written(service: Service) -> None:
    with Running(service.recording) as running:
        assert running.pid == service.pid
        running.write("dump_requests", 0)
        with pytest.raises(ValueError):
            running.write("pid", 1)


def test_a_symbolic_link_is_not_followed(service: Service, tmp_path: Path) -> None:
    link = tmp_path / service.recording.name
    link.symlink_to(service.recording)
    assert "cannot be written" in refused(link)


def test_a_file_with_two_names_is_refused(service: Service) -> None:
    other = service.directory / "other"
    os.link(service.recording, other)
    try:
        assert "one name" in refused(other)
    finally:
        other.unlink()


def test_a_copy_is_not_mistaken_for_the_recording(service: Service, tmp_path: Path) -> None:
    copy = tmp_path / service.recording.name
    shutil.copy(service.recording, copy)
    assert "copy" in refused(copy)


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"fastallo", bytes(4096), b"x" * 4096)):
        path = tmp_path / f"fastalloc-{number}-1.recording"
        path.write_bytes(content)
        assert "no recording" in refused(path)
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    assert "regular file" in refused(fifo)
    assert "cannot be written" in refused(tmp_path)
    assert "no such file" in refused(tmp_path / "none")


def altered(service: Service, path: Path, **fields: int) -> Path:
    content = bytearray(service.recording.read_bytes())
    for name, value in fields.items():
        kind, offset = HEADER.fields[name][:2]
        content[offset : offset + kind.itemsize] = value.to_bytes(kind.itemsize, "little")
    path.write_bytes(content)
    return path


def test_a_process_that_ended_or_is_another_is_refused(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "altered"
    assert "ended" in refused(altered(service, path, process_start_ticks=1))
    assert "ended" in refused(altered(service, path, state=3))
    assert "ended" in refused(altered(service, path, pid=4194304))
    assert "version" in refused(altered(service, path, layout_version=999))
    assert "version" in refused(altered(service, path, header_bytes=8))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_file_of_another_user_than_the_process_is_refused(
    service: Service, tmp_path: Path
) -> None:
    path = altered(service, tmp_path / "altered")
    os.chown(path, 12345, 12345)
    assert "another user" in refused(path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user_cannot_write(service: Service) -> None:
    code = (
        "import os, sys; from fastalloc.recording.running import disable; from pathlib import Path\n"
        "from fastalloc.recording.errors import RecordingError\n"
        "os.setgid(65534); os.setuid(65534)\n"
        f"try: disable(Path({str(service.recording)!r}))\n"
        "except RecordingError: sys.exit(7)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 7
    with Running(service.recording) as running:
        assert running.header["control"] == Control.RUN

"""Nothing that lies in a folder makes a reader crash, hang or take memory without bound."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import readers

SECONDS = 30  # of each


@pytest.mark.slow
@pytest.mark.parametrize("guidance", [[], ["--guided"]], ids=["at-random", "guided-by-coverage"])
def test_half_a_minute_of_damage(guidance: list[str]) -> None:
    if guidance:
        pytest.importorskip("atheris", reason="atheris is not to be had for this platform")
    command = [sys.executable, "-m", "tests.fuzz.readers", "--seconds", str(SECONDS), *guidance]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10 * SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)


def test_each_kind_of_damage_is_read_or_refused(tmp_path: Path) -> None:
    images, states = readers.sound_files()
    damage = readers.Damage(random.Random(7), images, states)
    for number in range(15):
        readers.write_input(tmp_path, damage.recording(), damage.state())
        readers.read_in_every_way(tmp_path, commands=2, seed=number)


def test_a_pipe_in_a_files_place_is_not_waited_for(tmp_path: Path) -> None:
    images, states = readers.sound_files()
    for name in (readers.NAME, f"{readers.DUMP}/recording.fastalloc", f"{readers.DUMP}/state.json"):
        folder = tmp_path / name.replace("/", "-")
        folder.mkdir()
        readers.write_input(folder, images[-1], states[0])
        (folder / name).unlink()
        os.mkfifo(folder / name)
        command = f"import sys; from tests.fuzz.readers import *; read_in_every_way(Path({str(folder)!r}))"
        subprocess.run([sys.executable, "-c", command], check=True, timeout=60)

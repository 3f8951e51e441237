"""The command line as a whole: help, version, bad input."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from fastalloc.cli import COMMANDS
from tests.cli.conftest import Command


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_help(fastalloc: Command, name: str) -> None:
    outcome = fastalloc(name, "--help")
    assert outcome.status == 0
    assert outcome.out.startswith(f"usage: fastalloc {name}")


def test_version_is_that_of_the_distribution(fastalloc: Command) -> None:
    assert fastalloc("--version").out == f"fastalloc {version('fastalloc-recorder')}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("nonsense",),
        ("top", "--group", "nonsense"),
        ("top", "--limit", "many"),
        ("top", "--limit", "-1"),
        ("top", "--interval", "0"),
        ("export",),
        ("run",),
        ("run", "no-such-script.py"),
    ],
)
def test_bad_input_gives_one_line_and_status_2(
    fastalloc: Command, arguments: tuple[str, ...]
) -> None:
    outcome = fastalloc(*arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert len(outcome.err.splitlines()) == 1
    assert outcome.err.startswith("fastalloc")


@pytest.mark.parametrize("command", ["top", "info"])
def test_a_damaged_file_gives_one_line_and_status_2(
    fastalloc: Command, command: str, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.recording"
    damaged.write_bytes(b"not a recording" * 1000)
    outcome = fastalloc(command, damaged)
    assert outcome.status == 2
    assert len(outcome.err.splitlines()) == 1
    assert "damaged.recording" in outcome.err


def test_the_module_is_the_same_as_the_command(recording: Path) -> None:
    arguments = ["top", str(recording), "--json"]
    module = subprocess.run(
        [sys.executable, "-m", "fastalloc", *arguments], capture_output=True, check=True
    )
    script = Path(sys.executable).with_name("fastalloc")
    command = subprocess.run([script, *arguments], capture_output=True, check=True)
    assert module.stdout == command.stdout


def test_a_reader_that_leaves_early_is_no_error(recording: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "fastalloc", "info", "--json", str(recording)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == b""
    assert process.wait() == 0


def test_the_parser_loads_nothing_heavy() -> None:
    code = (
        "import sys, fastalloc.cli as cli; cli.build_parser()\n"
        "assert not {'numpy', 'rich', 'memray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)

"""How numbers are printed."""

from __future__ import annotations

from pathlib import Path

import pytest

from fastalloc.cli import output
from tests.cli.conftest import Command
from tests.recording.synthetic import SyntheticRecording


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, "-"),
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (-1536, "-1.5 KiB"),
        (9 << 20, "9.0 MiB"),
        (2**70, "1024.0 EiB"),
    ],
)
def test_bytes_get_a_unit(count: float | None, text: str) -> None:
    assert output.format_bytes(count) == text


def test_an_unknown_limit_is_not_zero_bytes() -> None:
    assert output.format_known_bytes(0) == "-"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"),
        (0.0123, "12 ms"),
        (59.94, "59.9 s"),
        (61, "1 min 1 s"),
        (7322, "2 h 2 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_durations_have_two_units_at_most(seconds: float | None, text: str) -> None:
    assert output.format_seconds(seconds) == text


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/env/lib/python3.11/site-packages/django/db.py:3", "django/db.py:3"),
        ("/usr/lib/python3.11/json/decoder.py:3", "json/decoder.py:3"),
        ("/app/orders.py:10", "/app/orders.py:10"),
    ],
)
def test_paths_lose_what_all_of_them_share(path: str, text: str) -> None:
    assert output.shorten_path(path) == text


def test_only_losses_that_happened_are_named() -> None:
    assert output.describe_losses({"live": 0, "deep_stack": 1200}) == "deep stack 1,200"


HOSTILE = "\x1b[2J\x1b]0;pwn\x07[bold]X[/bold]\r\nevil\u202etxt\u2066\u200f\x9b31m\ud800"


def test_what_a_terminal_would_obey_is_escaped() -> None:
    shown = output.printable(HOSTILE)
    assert shown.isprintable()
    assert shown == (
        r"\x1b[2J\x1b]0;pwn\x07[bold]X[/bold]\r\nevil\u202etxt\u2066\u200f\x9b31m\ud800"
    )
    for text in ("GET /orders/", "größe 数 \N{ZERO WIDTH JOINER}"[:-1], "a  b"):
        assert output.printable(text) == text


@pytest.mark.parametrize("as_text", [False, True])
def test_nothing_that_is_printed_gets_past_it(
    capsys: pytest.CaptureFixture[str], as_text: bool
) -> None:
    from rich.text import Text

    console = output.make_console()
    table = output.make_table(console)
    table.add_column("name")
    table.add_row(HOSTILE)
    console.print(Text(HOSTILE.replace("\n", "")) if as_text else HOSTILE)
    console.print(table)
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == 3
    assert shown.replace("\n", "").isprintable() and r"\u202e" in shown


def test_names_from_a_recording_are_escaped_by_every_command(
    fastalloc: Command, tmp_path: Path
) -> None:
    recording = SyntheticRecording(pid=4242, state="running")
    span = recording.span("GET /\n\x1b[31m\u202e/")
    recording.live(size=5 << 20, span=span, site=recording.site([("f\n\u202e", "/a\x1b.py", 1)]))
    recording.options({"program": "/app/\x1b[31m\n.py", "limit_source": "\u202e"})
    path = recording.write(tmp_path / "fastalloc-4242-1700000000000.recording")
    for command in (
        ("status", "4242", "--dir", tmp_path),
        ("info", path),
        ("top", path, "--group", "span"),
        ("top", path, "--group", "site"),
        ("post-mortem", tmp_path),
    ):
        shown = fastalloc(*command).out
        assert shown and all(line.isprintable() for line in shown.split("\n")), command

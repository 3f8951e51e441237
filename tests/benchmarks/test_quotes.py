"""README quotes what the benchmarks' command printed, and nothing else."""

from __future__ import annotations

import re

from benchmarks.results import DOCS

from benchmarks import quotes


def test_readme_says_what_the_figures_say() -> None:
    assert quotes.quoted(quotes.README.read_text()) == quotes.block(quotes.kept())


def test_the_figures_are_those_of_the_page() -> None:
    kept, page = quotes.kept(), DOCS.read_text()
    for kind in (quotes.CPU, quotes.MEMORY) if kept else ():
        for title, cells in kept[kind].items():
            rows = [line for line in page.splitlines() if line.startswith(f"| {title} |")]
            for cell in cells:
                assert any(f" {cell} |" in row for row in rows), (kind, title, cell)


def test_readme_compares_with_no_profiler_outside_the_block() -> None:
    text = quotes.README.read_text()
    outside = text.replace(quotes.quoted(text), "") if quotes.kept() else text
    for name in ("ddtrace", "Pyroscope", "tracemalloc", "scalene", "Fil"):
        assert not re.search(rf"\b{name}\b.*\d", outside), (
            f"a figure of {name} that nothing printed"
        )


def test_a_block_is_replaced_whole() -> None:
    text = f"a\n{quotes.BEGIN}\nold\n{quotes.END}\nb"
    assert quotes.quoted(quotes.replaced(text, "new\n")) == "new\n"
    assert quotes.replaced(quotes.replaced(text, "x\n"), "old\n") == text


def test_the_block_shows_each_profiler_in_a_row() -> None:
    found = {
        "labels": ["3.11"],
        "date": "2026-01-01 10:00",
        "revision": "abc",
        "workloads": 17,
        quotes.CPU: {"light": ["1.020 ± 0.001"]},
        quotes.MEMORY: {"light": ["0.9"]},
    }
    assert "| light | 1.020 ± 0.001 | 0.9 |" in quotes.block(found)

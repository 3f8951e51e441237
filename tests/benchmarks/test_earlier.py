"""What was not measured again stays on the page."""

from __future__ import annotations

from benchmarks.earlier import KEPT, Earlier
from benchmarks.results import DOCS

MACHINE = "A machine, 2 cores."
PAGE = """# Benchmarks

How to read them.

**Older**: measured with fastalloc at a (3.11, then); the newest of this page is b.

### Targets

|  | target | found |  |
|---|---:|---:|---:|
| light, CPU | at most 1 | 2 | **missed** |
| light, instructions | at most 1 | 1 | met |

## Services

**Older**: measured with fastalloc at a (3.11, then); the newest of this page is b.

### Services under load

| a | 1 |

## Conditions

A machine, 2 cores.

- native-accuracy, 2026-01-01 10:00: CPython
- services, 2026-01-02 10:00: CPython
"""


def test_a_section_is_kept_whole_and_said_to_be_older() -> None:
    kept = Earlier(PAGE, MACHINE).section("Services")
    assert kept == f"## Services\n\n{KEPT}\n### Services under load\n\n| a | 1 |\n"
    again = Earlier(f"{kept}\n## Conditions\n\n{MACHINE}\n", MACHINE)
    assert again.section("Services") == kept
    assert Earlier(PAGE, MACHINE).section("Layers") == ""


def test_targets_are_kept_by_row() -> None:
    earlier = Earlier(PAGE, MACHINE)
    assert earlier.targets("instructions") == [["light, instructions", "at most 1", "1", "met"]]
    assert earlier.head().startswith(f"{KEPT}\n### Targets\n")
    assert "## Services" not in earlier.head()


def test_conditions_are_kept_of_what_was_not_measured_again() -> None:
    assert Earlier(PAGE, MACHINE).conditions({"services"}) == [
        "- native-accuracy, 2026-01-01 10:00: CPython"
    ]


def test_nothing_is_kept_of_another_machine() -> None:
    other = Earlier(PAGE, "Another, 64 cores.")
    assert other.section("Services") == other.head() == ""
    assert other.targets("CPU") == other.conditions(set()) == []


def test_the_page_that_stands_has_all_its_sections() -> None:
    page = DOCS.read_text()
    machine = page.partition("## Conditions\n\n")[2].partition("\n")[0]
    earlier = Earlier(page, machine)
    assert len(earlier.targets("CPU")) + len(earlier.targets("instructions")) > 8
    for title in ("Beside other profilers", "Layers", "Services", "How cost grows"):
        assert "| " in earlier.section(title)

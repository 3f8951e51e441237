"""The page as it stands, for what was not measured again: its sections are kept, if the machine is the same."""

from __future__ import annotations

import re

KEPT = "**Older**: kept from an earlier page; Conditions has the dates.\n"


class Earlier:
    """A page of benchmarks. machine: the line that says what the new results were measured on; a page of another
    machine has nothing to keep."""

    def __init__(self, page: str, machine: str) -> None:
        self._page = page if f"\n{machine}\n" in page else ""

    def section(self, title: str) -> str:
        """ "## title" and all below it, said to be older; "" if the page has none."""
        found = re.search(
            rf"^## {re.escape(title)}\n.*?(?=^## |\Z)", self._page, re.MULTILINE | re.DOTALL
        )
        return self._older(found[0], f"## {title}\n") if found else ""

    def head(self) -> str:
        """The targets, which stand before all sections."""
        found = re.search(r"^### Targets\n.*?(?=^## |\Z)", self._page, re.MULTILINE | re.DOTALL)
        return self._older(found[0], "") if found else ""

    def targets(self, word: str) -> list[list[str]]:
        """Its rows of the targets in whose title the word is."""
        lines = [line for line in self.head().splitlines() if line.startswith("| ")][1:]
        rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
        return [row for row in rows if word in row[0]]

    def _older(self, text: str, heading: str) -> str:
        text = re.sub(r"^\*\*Older\*\*:.*\n\n?", "", text, flags=re.MULTILINE)
        return f"{heading}\n{KEPT}\n{text.removeprefix(heading).strip()}\n".lstrip()

    def conditions(self, measured: set[str]) -> list[str]:
        """What was measured, of the kinds that were not measured again."""
        found = re.findall(r"^(- ([a-z-]+), \d{4}-.*)$", self._page, re.MULTILINE)
        return [line for line, kind in found if kind not in measured]

"""A table that prints itself on a terminal and into a Markdown page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass
class Table:
    """Texts in rows; the first column is left-aligned, the others right."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    note: str = ""

    def show(self) -> None:
        """On the terminal."""
        from rich import box
        from rich.console import Console
        from rich.table import Table as RichTable

        console = Console(highlight=False, markup=False)
        if not console.is_terminal:
            console = Console(highlight=False, markup=False, width=200)
        drawn = RichTable(title=self.title, title_justify="left", box=box.SIMPLE_HEAD)
        for number, column in enumerate(self.columns):
            drawn.add_column(column, justify="right" if number else "left")
        for row in self.rows:
            drawn.add_row(*row)
        console.print(drawn)
        if self.note:
            console.print(self.note)

    def markdown(self) -> str:
        """For a page, with its heading."""
        lines = [f"### {self.title}", ""]
        if self.note:
            lines += [self.note, ""]
        lines.append("| " + " | ".join(self.columns) + " |")
        lines.append("|---|" + "---:|" * (len(self.columns) - 1))
        lines += ["| " + " | ".join(row) + " |" for row in self.rows]
        return "\n".join([*lines, ""])

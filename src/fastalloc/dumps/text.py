"""The text of state.json, written into memory that was reserved before, and cut where it must end.

What is written is JSON at every instant that matters: rows that no longer fit are taken back whole.
"""

from __future__ import annotations

from time import monotonic

from fastalloc import _core, logs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_CHARACTERS = 1024  # of one string
MOST_DEPTH = 24
CLOSING_BYTES = 4096  # never given to a section: for brackets and for saying what was cut
LAST_BYTES = 256

NO_ROOM = "no room is left (dump_max_bytes)"
NO_TIME = "no time is left (dump_max_ms)"


class Encoded:
    """What is JSON already: for what there are thousands of."""

    __slots__ = ("text",)

    def __init__(self, text: str) -> None:
        self.text = text


class Cut(Exception):
    """What was being written has to end here. Its argument says why."""


class Text:
    """A JSON object, section by section. limit_bytes: of all of it. deadline: as monotonic()."""

    def __init__(self, limit_bytes: int, deadline: float) -> None:
        self.limit_bytes, self.deadline = limit_bytes, deadline
        self.skipped: dict[str, str] = {}
        self.milliseconds: dict[str, float] = {}
        self._spare = 0  # bytes that must stay free behind what is written
        self._until = deadline
        self._cut = ""
        self._first = True
        self._must("{")

    def section(
        self, name: str, content: object, of: str = "", *, in_any_case: bool = False
    ) -> None:
        """Add `name`: a value, or a function that returns it. It gets half of the room and of the
        time that are left; where that is too little, or it fails, the text says `skipped`, why.
        in_any_case: it is short, and comes out of CLOSING_BYTES when nothing else is left."""
        begun = monotonic()
        self._until = begun + (self.deadline - begun) / 2
        free = self.limit_bytes - CLOSING_BYTES - _core.dump_position()
        self._spare = LAST_BYTES if in_any_case else CLOSING_BYTES + max(free, 0) // 2
        self._key(name)
        start = _core.dump_position()
        try:
            if begun > self.deadline and not in_any_case:
                raise Cut(NO_TIME)
            self._cut = ""
            self.value(content() if callable(content) else content)
            if self._cut:
                self.skipped[of + name] = self._cut
        except Exception as error:
            why = str(error) if type(error) is Cut else f"failed: {type(error).__name__}"
            self.skipped[of + name] = why
            _core.dump_rewind(start)
            self._must(f'{{"skipped": {quote(why)}}}')
        self.milliseconds[of + name] = round((monotonic() - begun) * 1000, 2)

    def group(self, name: str, members: dict[str, object]) -> None:
        """Add `name`: an object of sections, each with its own room and time."""
        self._key(name)
        self._must("{")
        self._first = True
        for member, content in members.items():
            if _core.dump_position() > self.limit_bytes - CLOSING_BYTES:
                self.skipped[name] = NO_ROOM  # not even for saying so of each
                break
            self.section(member, content, of=f"{name}.")
        self._first = False
        self._must("}")

    def _key(self, name: str) -> None:
        self._must(("" if self._first else ",") + f"\n {quote(name)}: ")
        self._first = False

    @property
    def seconds_left(self) -> float:
        """Of the section that is being written."""
        return max(self._until - monotonic(), 0.0)

    def end(self) -> None:
        """Close the object."""
        self._must("\n}\n")

    def value(self, value: object, depth: int = 0) -> None:
        """Add anything JSON-able. Cut where there is no room, TypeError for what JSON cannot say."""
        if depth > MOST_DEPTH:
            raise Cut("nested too deeply")
        if type(value) is Encoded:
            self._put(value.text)
        elif isinstance(value, dict):
            self._object(value, depth)
        elif isinstance(value, (list, tuple)):
            self._put("[")
            for number, item in enumerate(value):
                if number:
                    self._put(", ")
                self.value(item, depth + 1)
            self._put("]")
        else:
            self._put(scalar(value))

    def _object(self, value: dict[str, object], depth: int) -> None:
        """Rows come last: they take all the room there is."""
        flat = _flat(value)
        if flat is not None:
            self._put(flat)
            return
        cut = ""
        self._put("{")
        separator = ""
        rows: list[tuple[str, Iterator[object]]] = []
        for key, item in value.items():
            if hasattr(item, "__next__"):
                rows.append((key, item))  # type: ignore[arg-type]
                continue
            self._put(f"{separator}{quote(key)}: ")
            self.value(item, depth + 1)
            separator = ", "
        for key, each in rows:
            self._put(f"{separator}{quote(key)}: ")
            cut = self._rows(each, depth + 1) or cut
            separator = ", "
        if cut and "skipped" not in value:
            self._must(f'{separator}"skipped": {quote(cut)}')
            self._must("}")
        else:
            self._put("}")

    def _rows(self, rows: Iterator[object], depth: int) -> str:
        """A list, as far as it fits; why it was cut, or ""."""
        why = ""
        whole = 0
        self._put("[")
        last = _core.dump_position()
        try:
            for row in rows:
                self._put(",\n  " if whole else "\n  ")
                self.value(row, depth)
                last = _core.dump_position()
                whole += 1
                if monotonic() > self._until:
                    raise Cut(NO_TIME)
        except Cut as cut:
            why = str(cut)
        except Exception as error:
            why = f"failed: {type(error).__name__}"
        if why:
            why = self._cut = f"cut after {whole}: {why}"
        _core.dump_rewind(last)
        self._must("]")
        return why

    def _put(self, piece: str) -> None:
        if not _core.dump_text(piece, self._spare):
            raise Cut(NO_ROOM)

    def _must(self, piece: str) -> None:
        """What CLOSING_BYTES are for."""
        if not _core.dump_text(piece, 0):
            raise RuntimeError("the memory reserved for a dump's text is too small")


_SIMPLE = frozenset((str, int, float, bool, type(None)))


def _flat(value: dict[str, object]) -> str | None:
    """The text of a short object of plain values, for one call where there would be dozens."""
    if len(value) > 16:
        return None
    pieces = []
    for key, item in value.items():
        if type(item) is Encoded:
            pieces.append(f"{quote(key)}: {item.text}")
        elif type(item) in _SIMPLE:
            pieces.append(f"{quote(key)}: {scalar(item)}")
        else:
            return None
    return f"{{{', '.join(pieces)}}}"


def quote(text: object) -> str:
    """A JSON string. TypeError for anything but a str."""
    if not isinstance(text, str):
        raise TypeError(f"{type(text).__name__} is no str")
    return logs.quote(str(text[:MOST_CHARACTERS]))


def scalar(value: object) -> str:
    """JSON of a str, number, bool or None."""
    if value is None:
        return "null"
    if value is True:
        return "true"
    if value is False:
        return "false"
    if isinstance(value, str):
        return quote(value)
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return float.__repr__(value) if value - value == 0.0 else "null"  # no NaN, no infinity
    raise TypeError(f"{type(value).__name__} is no JSON")

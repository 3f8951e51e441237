"""A statement's shape: its SQL without the values, so that the same query is known again.

    SELECT * FROM shop_order WHERE id IN (7, 8, 9) AND name = 'Ann'
    SELECT * FROM shop_order WHERE id IN (?) AND name = ?

Law: no literal of a statement is kept, and parameters are never looked at. A text in double quotes is a
name in standard SQL and a value in MySQL's: where it stands in a value's place it counts as a value.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple

    class Shape(NamedTuple):
        text: str
        verb: str
        table: str
        row_count: int
else:
    from collections import namedtuple

    Shape = namedtuple("Shape", "text verb table row_count")
    Shape.__doc__ = """text: the statement without values, cut to MAX_SHAPE characters. verb: SELECT,
    INSERT, ... in capitals, "" if it has none. table: the first one named, "" if none is. row_count:
    of an INSERT, how many rows its text has values for."""

MAX_STATEMENT = 64 * 1024  # characters looked at; the rest of a statement is cut off
MAX_SHAPE = 500
MAX_KNOWN = 512  # statements whose shape is remembered
MAX_KNOWN_LENGTH = 4096  # longer ones are looked at each time

# What is a value: a quoted text (doubled and escaped quotes inside), PostgreSQL's $tag$ text, a
# number, a placeholder of any driver. Names in double quotes, backticks and brackets stay.
_VALUE = re.compile(
    r"""
    --[^\n]*|/\*.*?\*/                              # comments: may quote values
    |"(?:[^"]|"")*"|`[^`]*`                         # names stay
    |(?:\b[EeNnXxBb])?'(?:[^'\\]|''|\\.)*(?:'|\Z)   # texts, the last one perhaps cut off
    |\$(\w*)\$.*?\$\1\$
    |%\(\w+\)s|%s|(?<![\w:]):\w+|\$\d+|\?\d*|@\w+   # placeholders
    |(?<![\w$.])[-+]?(?:0[xX][0-9a-fA-F]+|(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)(?!\w)
    """,
    re.VERBOSE | re.DOTALL,
)
_LIST = re.compile(r"(?<=\bIN) ?\([^()]*\)|(?<=\bVALUES)\b.*?(?=\bON\b|\bRETURNING\b|\Z)", re.I)
_UNDOTTED = re.compile(r'(?<!\.)"(?:[^"]|"")*"(?!\s*\.)')
_BEFORE_VALUE = re.compile(r"(?:[=<>~]|\b(?:LIKE|ILIKE|REGEXP|BETWEEN|AND|THEN|ELSE))\s*\Z", re.I)
_COMPARED = re.compile(r"\s*(?:[=<>!~.]|(?:IN|IS|LIKE|ILIKE|NOT|BETWEEN)\b)", re.I)
_NAMED_POINTS = ("SAVEPOINT", "RELEASE", "ROLLBACK")  # their names are made up, one per use
_SPACE = re.compile(r"\s+")
_GROUP = re.compile(r"\(\s*\?(?:\s*(?:::\w+)?\s*,\s*\?)*\s*\)")
_GROUPS = re.compile(r"\(\?\)(?:\s*,\s*\(\?\))+")
_VERB = re.compile(r"[\s(]*([A-Za-z]+)")
_TABLE = re.compile(
    r"\b(?:FROM|INTO|UPDATE|TABLE)\s+(?:ONLY\s+)?((?:[\w$]+|\"[^\"]*\"|`[^`]*`|\[[^\]]*\])"
    r"(?:\s*\.\s*(?:[\w$]+|\"[^\"]*\"|`[^`]*`|\[[^\]]*\]))?)",
    re.IGNORECASE,
)

_known: dict[str, Shape] = {}


def shape_of(statement: object) -> Shape:
    """The shape of a statement as it goes to the database. Some 20 us for one that is new, well below
    1 us for one of the last 512."""
    text = statement if type(statement) is str else str(statement)
    known = _known.get(text)
    if known is not None:
        return known
    shape = _shape(text)
    if len(text) <= MAX_KNOWN_LENGTH:
        if len(_known) >= MAX_KNOWN:
            _known.clear()  # simpler than an order of use, and as good: it fills again at once
        _known[text] = shape
    return shape


def _shape(text: str) -> Shape:
    text = _SPACE.sub(" ", _VALUE.sub(_without, text[:MAX_STATEMENT])).strip()
    text = _LIST.sub(lambda match: _UNDOTTED.sub("?", match[0]), text)
    verb = _VERB.match(text)
    word = verb[1].upper() if verb else ""
    if word in _NAMED_POINTS:
        return Shape(word, word, "", 0)
    table = _TABLE.search(text)
    rows = 0
    text = _GROUP.sub("(?)", text)
    if word in ("INSERT", "REPLACE"):
        rows = _rows_of_values(text)
    text = _GROUPS.sub("(?)", text)
    return Shape(text[:MAX_SHAPE], word, _bare(table[1]) if table else "", rows)


def _without(match: re.Match[str]) -> str:
    found = match[0]
    if found[0] == '"':
        before = match.string[max(match.start() - 16, 0) : match.start()]
        is_name = not _BEFORE_VALUE.search(before) or _COMPARED.match(match.string, match.end())
        return found if is_name else "?"
    if found[0] == "`":
        return found
    return " " if found[:2] in ("--", "/*") else "?"


def _rows_of_values(text: str) -> int:
    """How many groups follow VALUES; groups with expressions in them count as one at least."""
    at = text.upper().find("VALUES")
    return max(text.count("(?)", at), 1) if at >= 0 else 0


def _bare(name: str) -> str:
    """`"public"."order"` as public.order."""
    return ".".join(part.strip().strip('"`[]') for part in name.split("."))

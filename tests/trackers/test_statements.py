"""Shapes of statements: no value stays, and the same query has the same shape."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastalloc.trackers.statements import MAX_SHAPE, shape_of

SECRET = "Hunter2"


@pytest.mark.parametrize(
    ("statement", "shape"),
    [
        ("SELECT * FROM t WHERE id = 7", "SELECT * FROM t WHERE id = ?"),
        ("SELECT * FROM t WHERE id IN (7, 8,9)", "SELECT * FROM t WHERE id IN (?)"),
        ("SELECT * FROM t WHERE id IN (%s, %s)", "SELECT * FROM t WHERE id IN (?)"),
        ("SELECT a1, t2.b FROM t2 LIMIT 21", "SELECT a1, t2.b FROM t2 LIMIT ?"),
        (
            'SELECT "a" FROM "t" WHERE "t"."a" = "u"."b"',
            'SELECT "a" FROM "t" WHERE "t"."a" = "u"."b"',
        ),
        ("SELECT a\n  FROM   t -- Hunter2\n", "SELECT a FROM t"),
        ("SELECT -3.5e7, 0x1F, .5", "SELECT ?, ?, ?"),
        ("SELECT %(name)s, :name, $1, ?, name::text", "SELECT ?, ?, ?, ?, name::text"),
        ("INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y')", "INSERT INTO t (a, b) VALUES (?)"),
        ('UPDATE "t" SET "a" = %s', 'UPDATE "t" SET "a" = ?'),
        ('SAVEPOINT "s140_x1"', "SAVEPOINT"),
    ],
)
def test_values_go_and_names_stay(statement: str, shape: str) -> None:
    assert shape_of(statement).text == shape


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM t WHERE name = 'Hunter2'",
        "SELECT * FROM t WHERE name = 'it''s Hunter2'",
        "SELECT * FROM t WHERE name = E'it\\'s Hunter2'",
        "SELECT * FROM t WHERE name = $$Hunter2$$",
        "SELECT * FROM t WHERE name = $a$ 'Hunter2' $a$",
        'SELECT * FROM t WHERE name = "Hunter2"',
        'SELECT * FROM t WHERE name LIKE "Hunter2%"',
        'SELECT * FROM t WHERE name IN ("Ann", "Hunter2")',
        'INSERT INTO t (name) VALUES ("Hunter2")',
        "SELECT * FROM t WHERE name = 'Hunter2",
        "SELECT 1 /* for 'Hunter2' */",
        "SELECT X'48756E746572', N'Hunter2'",
    ],
)
def test_no_literal_stays(statement: str) -> None:
    assert SECRET not in shape_of(statement).text


@given(st.text(max_size=30))
def test_no_quoted_text_stays_whatever_is_in_it(text: str) -> None:
    quoted = "'" + text.replace("'", "''").replace("\\", "\\\\") + SECRET + "'"
    assert SECRET not in shape_of(f"SELECT * FROM t WHERE a = {quoted} AND b = 'c'").text


def test_verb_table_and_rows() -> None:
    insert = shape_of('INSERT INTO "public"."t" ("a") VALUES (%s), (%s), (%s) RETURNING "id"')
    assert insert[1:] == ("INSERT", "public.t", 3)
    assert shape_of("(select a from `b`) union (select c from d)")[1:] == ("SELECT", "b", 0)
    assert shape_of("")[1:] == ("", "", 0)


def test_a_huge_statement_is_cut_and_not_remembered() -> None:
    statement = f"SELECT a FROM t WHERE id IN ({', '.join(map(str, range(50_000)))})"
    shape = shape_of(statement)
    assert shape.text.startswith("SELECT a FROM t WHERE id IN (")
    assert len(shape.text) <= MAX_SHAPE

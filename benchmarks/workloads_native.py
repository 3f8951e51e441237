"""Workloads whose memory is C libraries': images, XML, a database. numpy and pandas are with the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

NATIVE = ("numpy", "pandas", "pillow", "lxml", "sqlite")
"""The workloads that say what `native` costs."""


def pillow() -> Callable[[], object]:
    """A picture's thumbnail: PNG decoded, cropped, scaled, written as JPEG. (Decoding a JPEG takes 208 us or 338, by where
    its blocks happen to lie: the same in all rounds of a process, another in the next.)"""
    import io

    from PIL import Image

    picture = io.BytesIO()
    gradient = Image.linear_gradient("L").resize((400, 300))
    Image.merge("RGB", (gradient, gradient.rotate(90), gradient.rotate(180))).save(picture, "PNG")

    def work() -> bytes:
        picture.seek(0)
        image = Image.open(picture).convert("RGB").crop((20, 20, 380, 280))
        image.thumbnail((128, 128))
        written = io.BytesIO()
        image.save(written, "JPEG", quality=80)
        return written.getvalue()

    return work


def lxml() -> Callable[[], object]:
    """A feed of 150 entries parsed, searched, changed and written."""
    from lxml import etree

    entries = "".join(
        f'<entry id="{number}"><title>Entry {number}</title><author>A{number % 7}</author>'
        f"<content>{'words ' * 20}</content></entry>"
        for number in range(150)
    )
    text = f"<feed>{entries}</feed>".encode()

    def work() -> bytes:
        feed = etree.fromstring(text)
        for title in feed.iterfind("entry/title"):
            title.text = (title.text or "").upper()
        for entry in feed.xpath("entry[author='A3']"):
            feed.remove(entry)
        return etree.tostring(feed)

    return work


def sqlite() -> Callable[[], object]:
    """A table of 300 rows in memory: filled, indexed, joined with itself, dropped."""
    import sqlite3

    rows = [(number, number % 17, f"name {number}" * 3) for number in range(300)]
    connection = sqlite3.connect(":memory:")

    def work() -> list[tuple[int, int, str]]:
        with connection:
            connection.execute("create table item (id integer primary key, kind int, name text)")
            connection.executemany("insert into item values (?, ?, ?)", rows)
            connection.execute("create index by_kind on item (kind)")
            found = connection.execute(
                "select a.kind, count(*), max(b.name) from item a join item b on a.kind = b.kind "
                "group by a.kind order by 2 desc"
            ).fetchall()
            connection.execute("drop table item")
        return found

    return work


WORKLOADS_NATIVE = (pillow, lxml, sqlite)

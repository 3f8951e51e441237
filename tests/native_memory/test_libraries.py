"""Real libraries: their memory is seen, with its true size, under the line that took it."""

from __future__ import annotations

import pytest

from tests.native_memory.conftest import NativePrograms

PRELUDE = """
import fastalloc
from tests.core.inside import *
fastalloc.start(interval_bytes=1, native=True, scale=16)
def held(function):
    '''Live native bytes under a function, by domain.'''
    snapshot = fastalloc.snapshot()
    assert not snapshot.losses["live"], snapshot.losses
    totals = {}
    for row in snapshot.live[snapshot.live["domain"] >= 4]:
        names = [frame.function for frame in snapshot.stack(int(row["site"]))]
        if function in names:
            domain = ("MALLOC", "MMAP")[row["domain"] - 4]
            totals[domain] = totals.get(domain, 0) + int(row["weight"])
    return totals
"""


def test_numpy(programs: NativePrograms) -> None:
    pytest.importorskip("numpy")
    done = programs.run(
        PRELUDE
        + """
import numpy, warnings
def make(): return numpy.zeros(1_000_003, dtype="u1")
def grow(array): array.resize(5_000_003, refcheck=False); return array
def mapped(): return numpy.memmap("file", mode="w+", shape=(3_000_000,), dtype="u1")
array = make()
first = held("make")
grow(array)
second = held("make"), held("grow")
on_disk = mapped()
third = held("mapped")
del array
answer(first=first, second=second, third=third, last=held("grow"))
"""
    )
    numpy = pytest.importorskip("numpy")
    if tuple(map(int, numpy.__version__.split(".")[:2])) >= (2, 5):
        pytest.skip("this numpy asks Python for its memory")
    assert done.answer["first"]["MALLOC"] == pytest.approx(1_000_003, abs=2000)
    made, grown = done.answer["second"]
    assert made.get("MALLOC", 0) < 2000
    assert grown["MALLOC"] == pytest.approx(5_000_003, abs=2000)
    assert done.answer["third"].get("MMAP", 0) == 0  # a file on disk
    assert done.answer["last"].get("MALLOC", 0) < 2000


def test_sqlite(programs: NativePrograms) -> None:
    """sqlite says itself what it has taken of malloc."""
    done = programs.run(
        PRELUDE
        + """
import ctypes, ctypes.util, _sqlite3, sqlite3
name = next((line.split()[-1] for line in open("/proc/self/maps") if "libsqlite3" in line), None)
connection = sqlite3.connect(":memory:")
connection.execute("create table t (a, b)")
def fill():
    connection.executemany("insert into t values (?, ?)", ((i, "x" * 500) for i in range(20_000)))
def used():
    if name is None: return None
    library = ctypes.CDLL(name)
    library.sqlite3_memory_used.restype = ctypes.c_int64
    return library.sqlite3_memory_used()
before = used()
fill()
after = used()
answer(held=held("fill"), grown=after - before if name else None)
connection.close()
"""
    )
    if done.answer["grown"] is None:
        pytest.skip("sqlite is no library of its own here")
    assert done.answer["held"]["MALLOC"] == pytest.approx(done.answer["grown"], rel=0.02)
    assert done.answer["grown"] > 10_000_000


def test_what_lxml_parses(programs: NativePrograms) -> None:
    pytest.importorskip("lxml")
    done = programs.run(
        PRELUDE
        + """
from lxml import etree
text = b"<r>" + b"<item name='x'>some text here</item>" * 20_000 + b"</r>"
def parse(): return etree.fromstring(text)
tree = parse()
before = held("parse")
del tree
answer(before=before, after=held("parse"))
"""
    )
    assert done.answer["before"]["MALLOC"] > 20_000 * 200
    assert done.answer["after"].get("MALLOC", 0) < done.answer["before"]["MALLOC"] * 0.05


def test_what_pillow_draws(programs: NativePrograms) -> None:
    pytest.importorskip("PIL")
    done = programs.run(
        PRELUDE
        + """
from PIL import Image
def draw(): return Image.new("RGB", (1000, 900))
image = draw()
before = held("draw")
image.close()
del image
answer(before=sum(before.values()), after=sum(held("draw").values()))
"""
    )
    assert done.answer["before"] == pytest.approx(1000 * 900 * 4, rel=0.05)


def test_what_pandas_holds(programs: NativePrograms) -> None:
    pytest.importorskip("pandas")
    done = programs.run(
        PRELUDE.replace("interval_bytes=1", "interval_bytes=1000")
        + """
import numpy, pandas
def make():
    return pandas.DataFrame({name: numpy.arange(500_000, dtype="f8") for name in "abcd"})
frame = make()
before = sum(held("make").values())
del frame
answer(before=before, after=sum(held("make").values()))
"""
    )
    assert done.answer["before"] == pytest.approx(4 * 500_000 * 8, rel=0.05)
    assert done.answer["after"] < 100_000


def test_compressors_and_digests(programs: NativePrograms) -> None:
    """What several libraries take and give back while they work is all gone in the end, but for what
    OpenSSL keeps of its first use: tables of its own, of a size that its version decides."""
    done = programs.run(
        PRELUDE
        + """
import bz2, hashlib, lzma, ssl, zlib
def work():
    text = bytes(range(256)) * 2000
    for codec in (bz2, lzma, zlib): assert codec.decompress(codec.compress(text)) == text
    hashlib.pbkdf2_hmac("sha256", b"x", b"y", 1000)
    return [hashlib.new("sha256", text) for i in range(1000)]
work()
first = held("work")
kept = work()
during = held("work")
del kept
answer(first=first, during=during, after=held("work"))
"""
    )
    first, during, after = (
        done.answer[when].get("MALLOC", 0) for when in ("first", "during", "after")
    )
    assert during - first > 1000 * 100  # of OpenSSL's digests
    assert after == first < 100_000


@pytest.mark.parametrize("kind", ["aggregated", "all"])
def test_an_export_names_the_families_of_what_libraries_hold(
    programs: NativePrograms, kind: str
) -> None:
    """Read by memray itself. At interval 1 every byte is exact; 2000 are left for what ctypes takes in the line."""
    memray = pytest.importorskip("memray")
    done = programs.run(
        """
        import mmap
        import fastalloc
        from tests.core.inside import *
        fastalloc.start(interval_bytes=1, native=True, scale=16)
        import ctypes, os
        library = ctypes.CDLL(os.environ["TEST_CALLS"])
        library.call_malloc.restype = ctypes.c_void_p
        block = library.call_malloc(ctypes.c_size_t(1_000_000))
        pages = mmap.mmap(-1, 3 << 20)
        answer(done=True)
        """
    )
    from fastalloc.export import export_memray

    path = programs.base / "exported.bin"
    export_memray(done.snapshot(), path, kind=kind)
    families: dict[str, int] = {}
    reader = memray.FileReader(path)
    # Of a heap memray makes one record per stack, in the family of the first block there.
    single = kind == "all"
    for record in (
        reader.get_allocation_records() if single else reader.get_leaked_allocation_records()
    ):
        name = memray.AllocatorType(record.allocator).name
        families[name] = max(families.get(name, 0), record.size)
    assert families["MALLOC"] == pytest.approx(1_000_000, abs=2000)
    assert families["MMAP"] == pytest.approx(3 << 20, abs=2000)

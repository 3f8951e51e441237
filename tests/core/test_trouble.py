"""Where recording cannot work, or in memory only, the recorder says so once, and the program runs on."""

from __future__ import annotations

import os

import pytest

from tests.core.disks import small_disk
from tests.core.programs import Programs, needs_memory_limit

# The program's own work, before and after.
PRELUDE = """
import os, sys, warnings
import fastalloc, fastalloc.limits, fastalloc.spans, fastalloc.threads
from tests.core.inside import *
def work():
    with fastalloc.span("work"), fastalloc.phase("inner"):
        fastalloc.checkpoint("here")
        return sum(len(bytes(n)) for n in range(1000))
def start_in_vain(**options):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fastalloc.start(**options)
        fastalloc.start(**options)
    status = fastalloc.status()
    assert work() == 499_500
    fastalloc.stop()
    answer(active=status.active, reason=status.reason, warned=[str(w.message) for w in caught],
           level=status.level, rss=status.rss_bytes, recording=status.recording)
"""


def check(answer: dict, *words: str) -> None:
    """It recorded in memory only, and said why."""
    assert answer["active"] and answer["level"] == "memory" and answer["recording"] == ""
    assert len(answer["warned"]) == 1 and "in memory only" in answer["warned"][0]
    for word in words:
        assert word in answer["reason"] and word in answer["warned"][0]


def test_a_symbolic_link_is_no_folder_for_recordings(programs: Programs) -> None:
    real = programs.base / "real"
    real.mkdir(mode=0o700)
    link = programs.base / "link"
    link.symlink_to(real)
    done = programs.run(PRELUDE + f"start_in_vain(dir={str(link)!r})")
    check(done.answer, "symbolic link")
    assert not list(real.iterdir())


def test_a_file_is_no_folder_for_recordings(programs: Programs) -> None:
    (programs.base / "file").write_text("")
    for path in (programs.base / "file", programs.base / "file" / "below"):
        done = programs.run(PRELUDE + f"start_in_vain(dir={str(path)!r})")
        check(done.answer)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a folder of another user's")
def test_another_users_folder_is_refused(programs: Programs) -> None:
    folder = programs.base / "volume" / "fastalloc-0"
    folder.mkdir(mode=0o777, parents=True)
    os.chown(folder, 12345, 12345)
    done = programs.run(PRELUDE + f"start_in_vain(dir={str(folder.parent)!r})")
    check(done.answer, "another user")
    assert not list(folder.iterdir())


def test_a_folder_that_cannot_be_written_warns_once(programs: Programs) -> None:
    folder = programs.base / "readonly"
    folder.mkdir()
    become_ordinary = ""
    if os.geteuid() == 0:  # who may write anywhere
        os.chown(folder, 65534, 65534)
        programs.base.chmod(0o755)
        become_ordinary = (
            "import difflib, encodings.ascii, resource, stat\n"
            "fastalloc.start(); fastalloc.stop()\n"  # loads what that user may not read
            "os.setgid(65534); os.setuid(65534)\n"
        )
    folder.chmod(0o500)
    done = programs.run(PRELUDE + become_ordinary + f"start_in_vain(dir={str(folder)!r})")
    check(done.answer)


def test_a_full_disk_warns_and_leaves_nothing(programs: Programs) -> None:
    with small_disk(programs.base / "small", 1) as folder:
        done = programs.run(PRELUDE + f"start_in_vain(dir={str(folder)!r})")
        check(done.answer, "No space left")
        assert not list(folder.iterdir())


def test_a_limit_on_file_sizes_warns_and_leaves_nothing(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + "import resource\n"
        + "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\nstart_in_vain()"
    )
    check(done.answer, "reserving disk space")
    assert done.recordings == []


def test_a_dump_on_a_full_disk_is_an_error_and_leaves_nothing(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import resource
fastalloc.start()
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    fastalloc.write_dump()
    raised = ""
except OSError as error:
    raised = str(error)
answer(raised=raised, left=[n for n in os.listdir(os.environ["FASTALLOC_DIR"]) if "dump" in n],
       active=fastalloc.status().active, sum=work())
"""
    )
    assert done.answer["raised"]
    assert done.answer["active"] and done.answer["sum"] == 499_500
    assert done.answer["left"] == []


@needs_memory_limit
def test_no_memory_for_the_mapping_warns(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import resource
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + (3 << 20), -1))
start_in_vain()
"""
    )
    assert not done.answer["active"] and done.answer["reason"]
    assert done.answer["level"] == "counters" and done.answer["rss"] > 1 << 20
    assert done.recordings == []


def test_without_the_compiled_core_the_program_runs_and_recordings_are_read(
    programs: Programs,
) -> None:
    recorded = programs.run(
        PRELUDE + "fastalloc.start(); kept = bytes(9_000_000); fastalloc.stop()"
    )
    (path,) = recorded.recordings
    done = programs.run(
        f"""
        import asyncio, json, sys, warnings
        sys.modules["fastalloc._core"] = None  # as where it was not built
        import fastalloc
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            fastalloc.start()
            fastalloc.start()
        with fastalloc.span("a", b=1) as span, fastalloc.phase("c"):
            fastalloc.checkpoint("d")
            span.rename("e")
        @fastalloc.span("f")
        def plain(): return 1
        @fastalloc.phase("g")
        async def coroutine(): return 2
        @fastalloc.span("h")
        def generator(): yield 3
        @fastalloc.span("i")
        async def agen(): yield 4
        async def main():
            return [await coroutine()] + [x async for x in agen()]
        results = [plain(), *asyncio.run(main()), *generator()]
        fastalloc.configure({{"mode": "light"}}); fastalloc.disable(); fastalloc.enable()
        fastalloc.stop()
        status = fastalloc.status()
        raised = []
        for call in (fastalloc.snapshot, fastalloc.write_dump):
            try: call()
            except RuntimeError as error: raised.append(str(error))
        live = int(fastalloc.read({str(path)!r}).live_bytes)
        print(json.dumps(dict(results=results, reason=status.reason, warned=len(caught),
                              raised=len(raised), live=live)))
        """
    )
    answer = done.answer
    assert answer["results"] == [1, 2, 4, 3]
    assert "core" in answer["reason"] and answer["warned"] == 1 and answer["raised"] == 2
    assert answer["live"] > 8_000_000


def test_all_file_descriptors_may_be_closed_and_used_again(programs: Programs) -> None:
    done = programs.run(
        PRELUDE
        + """
import tempfile
fastalloc.start(interval_bytes=1000)
out = os.dup(1)
os.closerange(3, out); os.closerange(out + 1, 100)
files = [open(os.path.join(os.environ["HOME_OF_TEST"], str(n)), "w+") for n in range(20)]
for file in files: file.write("1234567890 " * 10); file.flush()
for _ in range(20):
    fastalloc.checkpoint("after"); work()
rss = fastalloc.status().rss_bytes
fastalloc.stop()
answer(rss=rss, contents=[(file.seek(0), file.read() == "1234567890 " * 10)[1] for file in files])
""",
        env={"HOME_OF_TEST": str(programs.base)},
    )
    assert all(done.answer["contents"])
    assert 1_000_000 < done.answer["rss"] < 1 << 30
    checkpoints = done.snapshot().checkpoints
    assert (checkpoints["rss_bytes"] < 1 << 30).all()

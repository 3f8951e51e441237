"""Import and start in an interpreter that has imported nothing else: run as a script, with a mode and a folder.

Prints JSON. Nothing is imported here before it is measured but what the interpreter itself has loaded.
"""

import os
import sys
import time

PROGRAM = os.path.realpath(sys.executable)


def resident_bytes() -> dict[str, int]:
    """Resident bytes in all, and without the interpreter's own program and the C library: those pages every
    process of this machine shares, and which of them are touched is the interpreter's layout."""
    theirs = (PROGRAM, "/libpython", "/libc.so", "/libc-", "/libm.so", "/libm-", "/ld-")
    every = others = 0
    own = False
    with open("/proc/self/smaps", encoding="utf-8", errors="replace") as smaps:
        for line in smaps:
            word, _, rest = line.partition(" ")
            if word == "Rss:":
                size = int(rest.split()[0]) * 1024
                every += size
                others += size * own
            elif not word.endswith(":"):
                own = rest.startswith("rw") or not any(name in rest for name in theirs)
    return {"rss_bytes": every, "own_bytes": others}


def main(mode: str, scratch: str) -> None:
    """Measure once."""
    resident_bytes()  # what reading takes itself is there from here on
    modules, before = set(sys.modules), resident_bytes()
    began, began_cpu = time.perf_counter(), time.process_time()
    import fastalloc

    imported = time.perf_counter()
    fastalloc.start(mode, dir=scratch + "/recordings")
    ended, ended_cpu = time.perf_counter(), time.process_time()
    after = resident_bytes()
    added = sorted(set(sys.modules) - modules)
    if mode != "disabled" and not fastalloc.status().active:
        raise RuntimeError(fastalloc.status().reason)
    of_core = {
        "fastalloc",
        "cython_runtime",
        *(name for name in added if name.startswith("_cython_")),
    }
    top = {name.partition(".")[0] for name in added}
    import json

    print(
        json.dumps(
            {
                "import_ms": (imported - began) * 1e3,
                "start_ms": (ended - imported) * 1e3,
                "cpu_ms": (ended_cpu - began_cpu) * 1e3,
                **{key: after[key] - before[key] for key in after},
                "modules": len(added),
                "added": added,
                "third_party": sorted(top - set(sys.stdlib_module_names) - of_core),
            }
        )
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

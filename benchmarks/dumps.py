"""What writing a dump costs in a process that has used nine tenths of its memory limit.

    python -m benchmarks dumps [--limit-mib 96] [--count 5]

Each case runs in a memory cgroup of its own, is filled up to 90 % of the limit, and writes dumps.
rss: how far resident memory rose above what it was before (VmHWM after clear_refs). cgroup: the same of
the cgroup's usage, page cache included. Both are peaks while the dump is written.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from typing import Any

from fastalloc.demo.cgroup import CgroupUnavailable, MemoryCgroup

CASES = {
    "plain": "",
    "40 threads": """
import threading
end = threading.Event()
def deep(n): return deep(n - 1) if n else end.wait()
for _ in range(40): threading.Thread(target=deep, args=(40,), daemon=True).start()
""",
    "500 tasks": """
import asyncio, threading
async def wait(n):
    with fastalloc.span(f"GET /{n}"): await asyncio.sleep(600)
async def main(): await asyncio.gather(*[wait(n) for n in range(500)])
threading.Thread(target=asyncio.run, args=(main(),), daemon=True).start()
""",
    "500 000 objects": "kept = [[] for _ in range(500_000)]",
}

PROGRAM = """
import json, os, sys, time
import fastalloc
fastalloc.start()
from fastalloc import dumps
group, limit, count, share = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
v2 = os.path.exists(group + "/memory.current")
usage_file = group + ("/memory.current" if v2 else "/memory.usage_in_bytes")
peak_file = group + ("/memory.peak" if v2 else "/memory.max_usage_in_bytes")
def number(path): return int(open(path).read())
def status(name): return next(int(l.split()[1]) for l in open("/proc/self/status") if l.startswith(name)) * 1024
def rss(): return int(open("/proc/self/statm").read().split()[1]) * 4096
before = rss(); from fastalloc.dumps import writer; writer.prepare(); prepared = rss() - before
{case}
time.sleep(0.3)
ballast = []
with fastalloc.span("fill"):
    while number(usage_file) < share * limit: ballast.append(bytes(100_000))
rows = []
for _ in range(count):
    open("/proc/self/clear_refs", "w").write("5")
    try: open(peak_file, "w").write("0")
    except OSError: pass
    rss_before, cgroup_before = status("VmRSS"), number(usage_file)
    begun = time.perf_counter()
    path = fastalloc.write_dump()
    took = time.perf_counter() - begun
    state = json.load(open(path + "/state.json"))
    rows.append(dict(ms=took * 1000, gathering_ms=state["dump"]["milliseconds"],
                     rss=status("VmHWM") - rss_before, cgroup=number(peak_file) - cgroup_before,
                     text=os.path.getsize(path + "/state.json"),
                     copy=os.stat(path + "/recording.fastalloc").st_blocks * 512,
                     skipped=state["dump"]["skipped"]))
print(json.dumps(dict(prepared=prepared, rows=rows)), flush=True)
os._exit(0)
"""


def measure(case: str, limit_bytes: int, count: int, share: float = 0.9) -> dict[str, Any]:
    """One case, with `share` of the limit in use, in a cgroup of its own. CgroupUnavailable where none can be made."""
    with MemoryCgroup(limit_bytes) as group, tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                PROGRAM.replace("{case}", CASES[case]),
                str(group.path),
                str(limit_bytes),
                str(count),
                str(share),
            ],
            preexec_fn=group.enter,
            env={"FASTALLOC_DIR": f"{folder}/recordings", "PATH": "/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise RuntimeError(f"ended with {done.returncode}: {done.stderr[-2000:]}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main(arguments: list[str]) -> int:
    """Measure all cases and print a table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks dumps", description=__doc__)
    parser.add_argument("--limit-mib", type=int, default=96)
    parser.add_argument("--count", type=int, default=5, help="dumps per case")
    args = parser.parse_args(arguments)
    print(
        f"{'case':18} {'prepare':>8} {'dump':>8} {'gather':>8} {'rss':>9} {'cgroup':>9} {'text':>8} {'copy':>9}  skipped"
    )
    try:
        for case in CASES:
            result = measure(case, args.limit_mib << 20, args.count)
            for row in result["rows"]:
                print(
                    f"{case:18} {result['prepared'] / 1024:4.0f} KiB "
                    f"{row['ms']:5.1f} ms {row['gathering_ms']:5.1f} ms {row['rss'] / 1024:5.0f} KiB "
                    f"{row['cgroup'] / 1024:5.0f} KiB {row['text'] / 1024:4.0f} KiB {row['copy'] / 1024:5.0f} KiB"
                    f"  {row['skipped'] or ''}"
                )
    except CgroupUnavailable as unavailable:
        print(unavailable, file=sys.stderr)
        return 1
    return 0

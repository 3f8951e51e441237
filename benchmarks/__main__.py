"""`python -m benchmarks COMMAND`; COMMANDS names them."""

from __future__ import annotations

import sys

from benchmarks import (
    accuracy,
    compare,
    dumps,
    growth,
    guard_reaction,
    instructions,
    native_accuracy,
    overheads,
    report,
    service_counts,
    services,
    startup,
    switched,
    trackers,
    whole,
)

COMMANDS = {
    "compare": (compare.main, "CPU time and memory beside other profilers, interleaved"),
    "instructions": (instructions.main, "instructions added to one allocation and free (valgrind)"),
    "overheads": (overheads.main, "spans, phases, checkpoints, start-up, resident memory, forks"),
    "growth": (
        growth.main,
        "how cost grows: threads, depth, live heap, stacks, spans, hours, sizes",
    ),
    "dumps": (dumps.main, "memory and time of a dump at nine tenths of a memory limit"),
    "guard": (guard_reaction.main, "how far a program gets past the guard's line"),
    "startup": (startup.main, "what each profiler adds to the start of a process"),
    "trackers": (trackers.main, "what trackers add to requests, by tracker"),
    "services": (services.main, "services under load: CPU, latency, requests a second"),
    "service-counts": (service_counts.main, "instructions of a request in services (valgrind)"),
    "switched": (switched.main, "what hooks and samples cost, told within one process"),
    "accuracy": (accuracy.main, "what each profiler says of a heap that is known"),
    "native-accuracy": (
        native_accuracy.main,
        "native memory by line, beside memray's exact answer",
    ),
    "docs": (whole.main, "all of docs/benchmarks.md in a given time"),
    "report": (report.main, "write docs/benchmarks.md from the results so far"),
}


def main(arguments: list[str]) -> int:
    """Run one command."""
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name in COMMANDS:
        return COMMANDS[name][0](rest)
    print(
        "usage: python -m benchmarks COMMAND [--python PATH ...] [options]; COMMAND --help for more"
    )
    for each, (_, text) in COMMANDS.items():
        print(f"  {each:15} {text}")
    return 0 if name in ("", "-h", "--help") else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

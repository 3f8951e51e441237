"""`python -m fastalloc.demo`: the demo without the command line's frame."""

from __future__ import annotations

import argparse
from pathlib import Path

from . import LIMIT_BYTES, MIB, REQUESTS, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fastalloc.demo", description=run.__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("demo-output"))
    parser.add_argument("--server", choices=("both", "gunicorn", "uvicorn"), default="both")
    parser.add_argument("--limit-mib", type=int, default=LIMIT_BYTES // MIB)
    parser.add_argument("--requests", type=int, default=REQUESTS)
    options = parser.parse_args()
    return run(options.output, options.server, options.limit_mib * MIB, options.requests)


if __name__ == "__main__":
    raise SystemExit(main())

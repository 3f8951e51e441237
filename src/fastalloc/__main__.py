"""`python -m fastalloc` is the command `fastalloc`."""

import sys

from fastalloc.cli import main

if __name__ == "__main__":
    sys.exit(main())

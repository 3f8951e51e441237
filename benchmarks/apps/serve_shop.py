"""`python -m benchmarks.apps.serve_shop PORT`: shop_wsgi in one process that does not fork, as valgrind needs it."""

from __future__ import annotations

import sys

from benchmarks.apps.shop_wsgi import application  # first: recording starts with it

# isort: split
from wsgiref.simple_server import WSGIRequestHandler, make_server


class Quiet(WSGIRequestHandler):
    """Writes no line for a request."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    make_server("127.0.0.1", int(sys.argv[1]), application, handler_class=Quiet).serve_forever()

"""A real Redis and a real memcached, for a test."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


class Server:
    """A server that runs; `port`, and `stop()` before its time."""

    def __init__(self, program: str, *arguments: str, folder: Path) -> None:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (apt-get install {program})")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self._command = [program, *(word.format(port=self.port) for word in arguments)]
        self._folder = folder
        self.start()

    def start(self) -> None:
        self._process = subprocess.Popen(
            self._command, cwd=self._folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < until and self._process.poll() is None, "it did not start"
                time.sleep(0.02)

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()

    def talk(self, request: bytes) -> bytes:
        """What it answers to `request`, in its own protocol."""
        with socket.create_connection(("127.0.0.1", self.port), 5) as connection:
            connection.sendall(request)
            return connection.recv(4096)


@contextmanager
def redis(folder: Path, password: str = "") -> Iterator[Server]:
    words = ["--port", "{port}", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    if password:
        words += ["--requirepass", password]
    server = Server("redis-server", *words, folder=folder)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def memcached(folder: Path) -> Iterator[Server]:
    words = ["-l", "127.0.0.1", "-p", "{port}", "-U", "0", "-u", "nobody"]
    server = Server("memcached", *words, folder=folder)
    try:
        yield server
    finally:
        server.stop()

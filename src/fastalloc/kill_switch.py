"""A key that a whole fleet shares: while it is set, no process records.

Polled in a thread of its own that lives as long as one poll: a server that hangs holds up neither the
program nor the watcher. Redis and memcached are asked in their own protocols, without a client
library. A server that cannot be reached changes nothing, and opens the breaker.
"""

from __future__ import annotations

import os
import sys

from fastalloc import _core, background, control
from fastalloc.breaker import Breaker
from fastalloc.shared_key import Address

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

POLL_SECONDS = 1.0  # at most, for connecting, asking and answering; names are looked up besides
BEFORE_FORK_SECONDS = 0.1  # that a fork waits for a poll under way
UNSET = (b"", b"0", b"false", b"no", b"off")  # values that are as good as none
ANSWER_BYTES = 4096

_url = ""
_polling = 0  # the process in which a poll is under way
_thread_id = 0  # of the last poll's thread
_waits_at_fork = False


def begin(url: str, seconds: int) -> None:
    """Poll the key every `seconds`, the first time at once. Does nothing without a URL."""
    global _url, _waits_at_fork
    _url = url
    if url:
        if not _waits_at_fork:
            _waits_at_fork = True
            os.register_at_fork(before=_before_fork)
        background.every(seconds, poll, "kill switch poll", while_disabled=True)
        background.soon(poll)
    else:
        background.cancel("kill switch poll")


def poll() -> None:
    """Begin a poll. In the watcher's thread; about 0.1 ms."""
    global _polling
    breaker = Breaker("shared key")
    if _polling == os.getpid():
        breaker.call(_time_out)
        return
    _polling = os.getpid()
    try:
        _start_thread(_poll, (Address(_url), breaker))
    except BaseException:
        _polling = 0
        raise


def _poll(address: Address, breaker: Breaker) -> None:
    """One thread's life."""
    global _polling, _thread_id
    try:
        import _thread

        _thread_id = _thread.get_native_id()
        _core.set_thread_name(_thread_id, "fastalloc kill switch")
        is_set = breaker.call(_is_set, address)
        if is_set is not None:
            background.soon(_hold if is_set else _release)
    finally:
        _polling = 0


def _before_fork() -> None:
    """Python warns of a fork beside other threads: the poll's should be over."""
    from time import sleep

    for _ in range(int(BEFORE_FORK_SECONDS * 1000)):
        # Its last line is not yet its end.
        is_there = _thread_id and os.path.exists(f"/proc/self/task/{_thread_id}")
        if _polling != os.getpid() and not is_there:
            return
        sleep(0.001)


def _hold() -> None:
    control.hold("key")


def _release() -> None:
    control.release("key")


def _time_out() -> None:
    raise TimeoutError


def _start_thread(function: Callable[..., object], arguments: tuple[object, ...]) -> None:
    """A thread of the system's, also where gevent or eventlet put greenlets in their place."""
    import _thread

    module: Any = _thread
    if "eventlet.patcher" in sys.modules:
        module = sys.modules["eventlet.patcher"].original("_thread")
    start = module.start_new_thread
    if "gevent.monkey" in sys.modules:
        start = sys.modules["gevent.monkey"].get_original("_thread", "start_new_thread")
    start(function, arguments)


def _is_set(address: Address) -> bool | None:
    """Ask the server. OSError, ValueError or whatever Django's cache raises. None: Django is not up."""
    if address.kind == "django":
        return _ask_django(address)
    value = _ask_memcached(address) if address.kind == "memcached" else _ask_redis(address)
    return value is not None and value.strip().lower() not in UNSET


def _ask_django(address: Address) -> bool | None:
    conf = sys.modules.get("django.conf")
    if conf is None or not conf.settings.configured:
        return None
    from django.core.cache import caches

    value = caches[address.host].get(address.key)
    return value is not None and str(value).strip().lower().encode() not in UNSET


def _ask_redis(address: Address) -> bytes | None:
    commands = [["SELECT", str(address.database)], ["GET", address.key]]
    if address.password:
        login = [address.user, address.password] if address.user else [address.password]
        commands.insert(0, ["AUTH", *login])
    request = b"".join(map(_redis_command, commands))
    with _Connection(address) as connection:
        connection.send(request)
        for _ in commands[1:]:
            connection.redis_answer()
        return connection.redis_answer()


def _redis_command(words: list[str]) -> bytes:
    parts = [word.encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(p), p) for p in parts)


def _ask_memcached(address: Address) -> bytes | None:
    with _Connection(address) as connection:
        connection.send(b"get %s\r\n" % address.key.encode())
        line = connection.line()
        if line == b"END":
            return None
        if not line.startswith(b"VALUE "):
            raise ValueError("no answer of memcached's")
        return connection.take(int(line.split(b" ")[3]))


class _Connection:
    """A connection for one poll. Everything together takes POLL_SECONDS at most."""

    def __init__(self, address: Address) -> None:
        from time import monotonic

        self._now, self._until = monotonic, monotonic() + POLL_SECONDS
        self._buffer = b""
        self._socket = self._connect(address)

    def __enter__(self) -> _Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def _connect(self, address: Address) -> Any:
        import _socket  # not socket: gevent and eventlet put their own there

        places = _socket.getaddrinfo(address.host, address.port, 0, _socket.SOCK_STREAM)
        error: OSError = OSError("no address")
        for family, kind, protocol, _, place in places:
            connection = _socket.socket(family, kind | _socket.SOCK_CLOEXEC, protocol)
            try:
                connection.settimeout(self._left())
                connection.connect(place)
                return (
                    self._encrypt(connection, address) if address.kind == "rediss" else connection
                )
            except OSError as this:
                connection.close()
                error = this
        raise error

    def _encrypt(self, connection: Any, address: Address) -> Any:
        import ssl

        return ssl.create_default_context().wrap_socket(connection, server_hostname=address.host)

    def _left(self) -> float:
        left = self._until - self._now()
        if left <= 0:
            raise TimeoutError
        return left

    def send(self, request: bytes) -> None:
        self._socket.settimeout(self._left())
        self._socket.sendall(request)

    def _more(self) -> None:
        if len(self._buffer) > ANSWER_BYTES:
            raise ValueError("the answer is too long")
        self._socket.settimeout(self._left())
        part = self._socket.recv(ANSWER_BYTES)
        if not part:
            raise ConnectionError("closed")
        self._buffer += part

    def line(self) -> bytes:
        while b"\r\n" not in self._buffer:
            self._more()
        line, _, self._buffer = self._buffer.partition(b"\r\n")
        return line

    def take(self, count: int) -> bytes:
        """The next `count` bytes; of a long value what has come, for it is one."""
        count = min(count, ANSWER_BYTES)
        while len(self._buffer) < count:
            self._more()
        return self._buffer[:count]

    def redis_answer(self) -> bytes | None:
        line = self.line()
        if line[:1] == b"+":
            return line[1:]
        if line[:1] == b"$":
            count = int(line[1:])
            return None if count < 0 else self.take(count)
        raise ValueError("refused by Redis")

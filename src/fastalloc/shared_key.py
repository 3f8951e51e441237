"""Where a shared key lies, as a URL.

    redis://[user:password@]host[:port][/database][/key]     rediss:// with TLS
    memcached://host[:port][/key]
    django:alias[/key]                                       a cache of Django's settings

A user and password are written as they are: the last @ ends them.
"""

from __future__ import annotations

DEFAULT_KEY = "fastalloc:disabled"
PORTS = {"redis": 6379, "rediss": 6379, "memcached": 11211}


class Address:
    """What a URL names: kind ("redis", "rediss", "memcached", "django"), host (of Django: the
    cache's alias), port, user, password, database, key."""

    __slots__ = ("database", "host", "key", "kind", "password", "port", "user")

    def __init__(self, url: str) -> None:
        """ValueError without the URL's text: it may hold a password."""
        self.kind, _, rest = url.partition(":")
        if self.kind == "django":
            self.host, _, key = rest.partition("/")
            self.host, self.key = self.host or "default", key or DEFAULT_KEY
        elif self.kind in PORTS and rest.startswith("//"):
            login, _, rest = rest[2:].rpartition("@")
            self.user, _, self.password = login.partition(":")
            place, _, path = rest.partition("/")
            self._split_place(place)
            first, _, others = path.partition("/")
            is_number = self.kind != "memcached" and first.isdecimal()
            self.database = int(first) if is_number else 0
            self.key = (others if is_number else path) or DEFAULT_KEY
        else:
            raise ValueError("begins with none of redis://, rediss://, memcached://, django:")
        if not self.key.isprintable() or " " in self.key or len(self.key.encode()) > 250:
            raise ValueError("the key has spaces or more than 250 bytes")

    def _split_place(self, place: str) -> None:
        host, colon, port = place.rpartition(":")
        if not colon or port.endswith("]"):  # no port; perhaps an IPv6 address
            host, port = place, ""
        self.host = host.strip("[]")
        if not self.host or (port and not port.isdecimal()):
            raise ValueError("names no host and port")
        self.port = int(port) if port else PORTS[self.kind]

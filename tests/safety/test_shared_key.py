"""Where a shared key lies, as a URL; and no password of it shows anywhere."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastalloc import config
from fastalloc.shared_key import DEFAULT_KEY, Address


def parts(url: str, *names: str) -> list[object]:
    address = Address(url)
    return [getattr(address, name) for name in names]


def test_redis() -> None:
    names = ("kind", "host", "port", "user", "password", "database", "key")
    assert parts("redis://cache", *names) == ["redis", "cache", 6379, "", "", 0, DEFAULT_KEY]
    assert parts("redis://u:p@h:7/3/k", *names) == ["redis", "h", 7, "u", "p", 3, "k"]
    assert parts("rediss://:p@h/k:l", *names) == ["rediss", "h", 6379, "", "p", 0, "k:l"]
    assert parts("redis://:p@ss/w:rd@[::1]:7", *names) == [
        *("redis", "::1", 7, "", "p@ss/w:rd", 0, DEFAULT_KEY)
    ]
    assert parts("redis://[::1]/2", "host", "port", "database") == ["::1", 6379, 2]


def test_memcached_and_django() -> None:
    assert parts("memcached://h/7", "host", "port", "key") == ["h", 11211, "7"]
    assert parts("memcached://h:1", "port", "key") == [1, DEFAULT_KEY]
    assert parts("django:", "host", "key") == ["default", DEFAULT_KEY]
    assert parts("django:sessions/off", "host", "key") == ["sessions", "off"]


@pytest.mark.parametrize(
    "url",
    [
        *("http://h", "redis:h", "redis://", "redis://:secret@", "redis://h:port/k", "redis", "x"),
        *("redis://h/a b", "memcached://h/a\r\nset x", "memcached://h/" + "k" * 251),
    ],
)
def test_what_is_wrong_is_said_without_the_url(url: str) -> None:
    with pytest.raises(config.ConfigError) as raised:
        config.check({"kill_switch_url": url})
    message = str(raised.value)
    assert message.startswith("kill_switch_url: ") and "\n" not in message
    assert "secret" not in message


@given(st.text())
def test_any_text_is_an_address_or_an_error(text: str) -> None:
    try:
        Address(text)
    except ValueError:
        pass


@given(
    st.text(st.characters(codec="ascii", exclude_categories=["Cc", "Zs"]), max_size=10),
    st.text(st.characters(codec="ascii", exclude_categories=["Cc", "Zs"]), min_size=6, max_size=20),
)
def test_the_password_is_left_out_where_the_url_is_shown(user: str, password: str) -> None:
    url = f"redis://{user.replace(':', '')}:{password}@cache.internal:6379/0/key"
    assert config.without_login(url) == "redis://cache.internal:6379/0/key"


def test_no_password_reaches_status_recording_or_dump(tmp_path: Path) -> None:
    code = f"""
import json, os, fastalloc
fastalloc.start(dir={str(tmp_path / "recordings")!r}, kill_switch_url="redis://u:hunter2@localhost:1/k")
status = json.dumps(fastalloc.status().to_dict())
print(json.dumps([status, fastalloc.write_dump()]))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    status, _dump = json.loads(done.stdout)
    assert "redis://localhost:1/k" in status
    contents = [
        path.read_bytes() for path in (tmp_path / "recordings").rglob("*") if path.is_file()
    ]
    assert len(contents) >= 3
    assert not [True for content in [status.encode(), *contents] if b"hunter2" in content]

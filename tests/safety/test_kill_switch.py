"""A shared key switches off all processes that look at it: real servers, running processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.safety.servers import memcached, redis
from tests.safety.service import Service, wait_until

SECONDS = 6  # polled each second, in these tests


def test_a_key_in_redis_stops_a_fleet_and_lets_it_go_on(tmp_path: Path) -> None:
    with redis(tmp_path, password="hunter2") as server:
        url = f"redis://:hunter2@127.0.0.1:{server.port}/3/stop:all"
        given = {"kill_switch_url": url, "kill_switch_seconds": 1}
        with Service(tmp_path / "one", **given) as one, Service(tmp_path / "two", **given) as two:
            assert one.is_on() and two.is_on()
            login = b"AUTH hunter2\r\nSELECT 3\r\n"
            server.talk(login + b"SET stop:all 1\r\n")
            wait_until(one.is_off, SECONDS)
            wait_until(two.is_off, SECONDS)
            assert "shared key" in one.status()["reason"]
            with Service(tmp_path / "late", **given) as late:  # starts, and looks at once
                wait_until(late.is_off, 2)
            one.ask("fastalloc.enable()")  # has no say against the key
            assert one.is_off()
            server.talk(login + b"SET stop:all 0\r\n")
            wait_until(one.is_on, SECONDS)
            server.talk(login + b"SET stop:all yes\r\n")
            wait_until(one.is_off, SECONDS)
            server.talk(login + b"DEL stop:all\r\n")
            wait_until(one.is_on, SECONDS)
            wait_until(two.is_on, SECONDS)
            assert one.breaker("shared key")["failures"] == 0


def test_a_server_that_cannot_be_reached_changes_nothing_and_opens_the_breaker(
    tmp_path: Path,
) -> None:
    # The breaker's ten failures, sooner than by the clock of the option's least value.
    setup = "from fastalloc import background, kill_switch; background.every(0.05, kill_switch.poll, 'kill switch poll', while_disabled=True)"
    with redis(tmp_path) as server:
        url = f"redis://127.0.0.1:{server.port}"
        server.talk(b"SET fastalloc:disabled 1\r\n")
        with Service(tmp_path / "recordings", setup, kill_switch_url=url) as service:
            wait_until(service.is_off, SECONDS)
            server.stop()
            wait_until(lambda: service.breaker("shared key")["state"] == "open", SECONDS)
            assert service.breaker("shared key")["last_error"] == "ConnectionRefusedError"
            assert service.is_off()  # as the key said last
            events = service.ask(
                "[e for e in fastalloc.snapshot().to_dict()['events'] if e['kind'] == 'breaker']"
            )
            assert [(event["a"], event["span_name"]) for event in events] == [(1, "shared key")]


@pytest.mark.slow
def test_a_server_that_never_answers_holds_up_nothing(tmp_path: Path) -> None:
    setup = """
import socket
listener = socket.create_server(("127.0.0.1", 0))
from fastalloc import kill_switch
kill_switch.begin(f"redis://127.0.0.1:{listener.getsockname()[1]}", 1)
"""
    with Service(tmp_path / "recordings", setup) as service:
        wait_until(lambda: service.breaker("shared key").get("failures", 0) >= 2, 10)
        assert service.breaker("shared key")["last_error"] == "TimeoutError"
        (service.directory / "disabled").touch()
        assert wait_until(service.is_off, 10) < 5  # the watcher is not the one that waits


def test_a_wrong_password_is_a_failure_and_no_answer(tmp_path: Path) -> None:
    with redis(tmp_path, password="right") as server:
        url = f"redis://:wrong@127.0.0.1:{server.port}"
        with Service(tmp_path / "r", kill_switch_url=url, kill_switch_seconds=1) as service:
            wait_until(lambda: service.breaker("shared key").get("failures"), SECONDS)
            assert service.is_on()


@pytest.mark.slow
def test_a_key_in_memcached(tmp_path: Path) -> None:
    with memcached(tmp_path) as server:
        url = f"memcached://127.0.0.1:{server.port}/stop"
        with Service(tmp_path / "r", kill_switch_url=url, kill_switch_seconds=1) as service:
            assert service.is_on()
            assert server.talk(b"set stop 0 0 3\r\nyes\r\n") == b"STORED\r\n"
            wait_until(service.is_off, SECONDS)
            assert server.talk(b"delete stop\r\n") == b"DELETED\r\n"
            wait_until(service.is_on, SECONDS)
            assert service.breaker("shared key")["failures"] == 0


@pytest.mark.slow
def test_a_key_in_the_django_cache(tmp_path: Path) -> None:
    """By the cache that the settings configure: here one in files, shared by processes."""
    pytest.importorskip("django")
    settings = f"""
import django
from django.conf import settings
settings.configure(CACHES={{"default": {{"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}},
    "shared": {{"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": {str(tmp_path / "cache")!r}}}}})
django.setup()
from django.core.cache import caches
"""
    options = {"kill_switch_url": "django:shared/stop", "kill_switch_seconds": 1}

    def other_process(code: str) -> None:
        subprocess.run([sys.executable, "-c", settings + code], check=True)

    with Service(tmp_path / "recordings", settings, **options) as service:
        assert service.is_on()
        other_process("caches['shared'].set('stop', True)")
        wait_until(service.is_off, SECONDS)
        other_process("caches['shared'].delete('stop')")
        wait_until(service.is_on, SECONDS)


def test_without_django_its_key_is_no_failure(tmp_path: Path) -> None:
    options = {"kill_switch_url": "django:default", "kill_switch_seconds": 1}
    with Service(tmp_path / "recordings", **options) as service:
        wait_until(lambda: service.breaker("shared key")["state"] == "closed", SECONDS)
        assert service.is_on()
        assert service.ask("'django' in sys.modules") is False


def test_polls_are_made_in_a_thread_that_is_gone_again(tmp_path: Path) -> None:
    with redis(tmp_path) as server:
        url = f"redis://127.0.0.1:{server.port}"
        with Service(tmp_path / "r", kill_switch_url=url, kill_switch_seconds=1) as service:
            wait_until(lambda: service.breaker("shared key")["state"] == "closed", SECONDS)
            names = service.ask("[t.name for t in threading.enumerate()]")
            assert sorted(names) == ["MainThread", "worker 0", "worker 1", "worker 2"]
            assert service.ask("'socket' in sys.modules") is False

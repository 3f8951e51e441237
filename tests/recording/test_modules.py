"""Which module a path is told to belong to."""

from __future__ import annotations

import pytest

from fastalloc.recording.modules import is_own, module_of


@pytest.mark.parametrize(
    ("file", "module"),
    [
        ("/venv/lib/python3.11/site-packages/django/db/models/query.py", "django"),
        ("/usr/lib/python3/dist-packages/yaml/__init__.py", "yaml"),
        ("/venv/lib/python3.11/site-packages/six.py", "six"),
        ("/usr/lib/python3.11/json/decoder.py", "json.decoder"),
        ("/usr/lib64/python3.12/json/__init__.py", "json"),
        ("/opt/python/lib/python3.13t/threading.py", "threading"),
        ("/usr/lib/python311.zip/os.py", "os"),
        ("<frozen importlib._bootstrap>", "importlib._bootstrap"),
        ("<string>", "<string>"),
        ("/app/orders/views.py", "/app/orders/views"),
        ("/app/orders/__init__.py", "/app/orders"),
        ("manage.py", "manage"),
        ("/app/lib/python/tool.py", "/app/lib/python/tool"),
        ("", ""),
    ],
)
def test_a_module_is_told_by_its_path(file: str, module: str) -> None:
    assert module_of(file) == module


@pytest.mark.parametrize(
    ("file", "own"),
    [
        ("/app/orders/views.py", True),
        ("manage.py", True),
        ("<string>", True),
        ("/venv/lib/python3.11/site-packages/six.py", False),
        ("/usr/lib/python3.11/json/decoder.py", False),
        ("<frozen importlib._bootstrap>", False),
        ("<attrs generated init shop.Order>", False),
        ("", False),
    ],
)
def test_what_is_the_programs_own(file: str, own: bool) -> None:
    assert is_own(file) is own

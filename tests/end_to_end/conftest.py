"""A shop to serve, and a memory cgroup to serve it in where one can be made."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys

import pytest

from fastalloc.demo.cgroup import CgroupUnavailable, MemoryCgroup


@pytest.fixture(scope="session")
def shop(tmp_path_factory) -> dict[str, str]:
    """The environment of the demo's shop, its database filled."""
    pytest.importorskip("django")
    environment = {
        "DJANGO_SETTINGS_MODULE": "fastalloc.demo.project.settings",
        "SHOP_DATABASE": str(tmp_path_factory.mktemp("shop") / "shop.sqlite3"),
        "SHOP_SECRET_KEY": secrets.token_hex(),
        "SHOP_ADMIN_PASSWORD": secrets.token_hex(8),
    }
    command = [sys.executable, "-m", "fastalloc.demo.shop.populate"]
    subprocess.run(command, env={**os.environ, **environment}, check=True)
    return environment


@pytest.fixture
def recordings(tmp_path):
    folder = tmp_path / "recordings"
    folder.mkdir(mode=0o700)
    return folder


@pytest.fixture
def group():
    """A memory cgroup of 96 MiB."""
    cgroup = MemoryCgroup(96 << 20)
    try:
        cgroup.__enter__()
    except CgroupUnavailable as unavailable:
        pytest.skip(str(unavailable))
    yield cgroup
    cgroup.__exit__(None, None, None)

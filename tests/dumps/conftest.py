"""Dumps are written by programs in processes of their own."""

from __future__ import annotations

import pytest

pytest.importorskip("fastalloc._core", reason="the core is not built")

from tests.core.conftest import allocator, programs

__all__ = ["allocator", "programs"]

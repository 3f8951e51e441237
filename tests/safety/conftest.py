"""Programs in processes of their own, as the core's tests run them."""

from __future__ import annotations

from tests.core.conftest import allocator, programs

__all__ = ["allocator", "programs"]

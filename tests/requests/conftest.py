"""The programs of the core's tests, here for requests."""

from tests.core.conftest import allocator, programs

__all__ = ["allocator", "programs"]

"""Blocks of known size, far larger than what frameworks allocate around them."""

from __future__ import annotations

import ctypes

_allocate = ctypes.pythonapi.PyMem_RawMalloc
_allocate.restype, _allocate.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
_free = ctypes.pythonapi.PyMem_RawFree
_free.restype, _free.argtypes = None, [ctypes.c_void_p]


def churn(size: int) -> None:
    """Allocate and free a block."""
    _free(_allocate(size))


def keep(size: int) -> None:
    """Allocate a block and never free it."""
    _allocate(size)

"""Which module a file belongs to, told by its path alone."""

from __future__ import annotations

import re

_INSTALLED = re.compile(r".*/(?:site|dist)-packages/([^/]+)")
_STANDARD = re.compile(r".*/(?:lib(?:64)?/)?python\d+\.?\d+t?(?:\.zip)?/(?:lib-dynload/)?(.+)")
_FROZEN = re.compile(r"<frozen (.+)>")
_SUFFIX = re.compile(r"\.(?:py|pyc|pyx)$")


def is_own(file: str) -> bool:
    """Whether a source file is the program's own: neither installed nor of the standard library,
    and not code that a library made at run time (`<attrs generated ...>`)."""
    if file.startswith("<"):
        return file in ("<string>", "<stdin>")
    return bool(file) and not _INSTALLED.match(file) and not _STANDARD.fullmatch(file)


def module_of(file: str) -> str:
    """The module or top-level package of a source file.

    - installed: the top-level package. `.../site-packages/django/db/models.py` -> `django`
    - the standard library: the module. `.../lib/python3.11/json/decoder.py` -> `json.decoder`,
      `<frozen importlib._bootstrap>` -> `importlib._bootstrap`
    - all other: the path without `.py`, since which part of it is importable depends on the
      process's sys.path. `/app/orders/views.py` -> `/app/orders/views`
    - a package's `__init__.py` is the package. What is no path (`<string>`) stays as it is.
    """
    frozen = _FROZEN.fullmatch(file)
    if frozen:
        return frozen[1]
    installed = _INSTALLED.match(file)
    if installed:
        return _SUFFIX.sub("", installed[1])
    module = _SUFFIX.sub("", file).removesuffix("/__init__")
    standard = _STANDARD.fullmatch(module)
    return standard[1].replace("/", ".") if standard else module

"""Which formats there are, and how their files are named; quick to import, without Beam and pyarrow."""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
from collections.abc import Mapping
from types import MappingProxyType

import transforms.formats
from transforms.extras import check_extra
from transforms.formats.base import Format

# All modules of this folder but those that need this one.
_NAMES = {m.name for m in pkgutil.iter_modules(transforms.formats.__path__)} - {"registry", "slices"}
_MODULES = [importlib.import_module(f"transforms.formats.{name}") for name in _NAMES]
_FOUND = {one for module in _MODULES for one in vars(module).values() if isinstance(one, Format)}
_FORMATS = {one.name: one for one in sorted(_FOUND, key=lambda one: one.name)}
# Format -> the extensions it is known by, compressed ones included; without those that must be named.
EXTENSIONS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        name: tuple(e + codec for codec in one.codecs for e in one.extensions)
        for name, one in _FORMATS.items()
        if one.extensions
    }
)
_FORMAT_OF = {extension: name for name, extensions in EXTENSIONS.items() for extension in extensions}


def names() -> tuple[str, ...]:
    """The formats' names, in alphabetical order."""
    return tuple(_FORMATS)


def get(name: str) -> Format:
    """The format of a name."""
    return _FORMATS[name]


def require(name: str) -> None:
    """Finds out whether the packages are there that a format's files are read with.

    Raises:
      UsageError: one is missing; the message says how to install it.
    """
    packages, extra = get(name).needs
    check_extra(extra, *packages, what=f"{name} files", argument="input_format")


def format_of(path: str) -> str | None:
    """The format a file's name promises, whatever the case of its letters; None if it promises none.

    >>> format_of("a/b.jsonl.gz"), format_of("B.PQ"), format_of("b.parquet.gz"), format_of("README")
    ('jsonl', 'parquet', None, None)
    """
    _, *extensions = path.rpartition("/")[2].lower().split(".")
    for count in (2, 1):
        found = _FORMAT_OF.get("." + ".".join(extensions[-count:]))
        if found is not None:
            return found
    return None

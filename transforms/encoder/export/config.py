"""A checkpoint's JSON files, with one line for what is wrong in them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transforms.errors import UsageError

ADVICE = "; use this model as a ready-made SavedModel instead"


@dataclass(frozen=True)
class Config:
    """One JSON object and where it was read.

    Attributes:
      path: of the file.
      values: what it says.
    """

    path: Path
    values: dict[str, Any] = field(repr=False)

    def get(self, key: str, default: Any = None) -> Any:
        """The value; null counts as not said."""
        value = self.values.get(key)
        return default if value is None else value

    def integer(self, *keys: str, default: int | None = None) -> int:
        """The first of `keys` that is there, as a whole number of at least 1.

        Raises:
          UsageError: none is there, or it is no such number.
        """
        value = next((self.values[key] for key in keys if self.values.get(key) is not None), default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            found = "missing" if value is None else repr(value)
            raise UsageError(f"{self.path}: {keys[0]} is {found}; expected a number of at least 1")
        return value

    def number(self, *keys: str, default: float) -> float:
        """The same for any number."""
        value = next((self.values[key] for key in keys if self.values.get(key) is not None), default)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise UsageError(f"{self.path}: {keys[0]} is {value!r}; expected a number")
        return float(value)

    def require(self, key: str, default: Any, *supported: Any) -> Any:
        """The value, which must be one of `supported`."""
        found = self.get(key, default)
        require(found in supported, self.path, f"{key} {found!r} is", supported, ADVICE)
        return found

    def refuse(self, reason: str) -> UsageError:
        """An error about this file."""
        return UsageError(f"{self.path}: {reason}")


def require(holds: object, path: Path, found: str, supported: Iterable[object], advice: str = "") -> None:
    """Raises UsageError "PATH: FOUND not supported, only SUPPORTED" unless `holds`."""
    if not holds:
        raise UsageError(f"{path}: {found} not supported, only {' or '.join(map(str, supported))}{advice}")


def read_config(path: Path, *, expected: str) -> Config:
    """Reads a JSON object."""
    return Config(path, read_json(path, expected=expected))


def read_json(path: Path, *, expected: str, kind: type = dict) -> Any:
    """Reads a JSON file whose top is a `kind`.

    Raises:
      UsageError: it is missing, no JSON, or of another kind.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as e:
        raise UsageError(f"{path} not found; expected {expected}") from e
    except ValueError as e:
        raise UsageError(f"{path}: not JSON ({e}); expected {expected}") from e
    if not isinstance(content, kind):
        raise UsageError(f"{path}: a JSON {type(content).__name__}; expected {expected} as a {kind.__name__}")
    return content

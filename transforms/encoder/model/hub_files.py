"""Which files of a repository are the model; all others are not downloaded."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from typing import NamedTuple

_GRAPHS = ("saved_model.pb", "saved_model.pbtxt")
_BESIDE = (".pb", ".pbtxt", ".json", ".txt", ".model")
_BELOW = ("variables/", "assets/", "assets.extra/")
_MODULE = re.compile(r"\d+_\w+/[^/]+\.(json|safetensors)")  # of sentence-transformers: 1_Pooling, 2_Dense
_FIRST = re.compile(r"0_\w+/config\.json")  # the transformer in older layouts of sentence-transformers
_SHARD = re.compile(r"model-\d+-of-\d+\.safetensors")
_SHOWN = 8


class NoModel(Exception):
    """The repository has no model that can be used; the text says what it has."""


class SavedModel(NamedTuple):
    """Where in the repository it lies, and its files."""

    folder: str
    files: list[str]


def saved_model(names: Sequence[str], folder: str | None) -> SavedModel | None:
    """The SavedModel among the files; None if there is none.

    Args:
      folder: where it lies; None looks at the top, and then for the only one there is below it.

    Raises:
      NoModel: there are several.
    """
    folders = sorted({posixpath.dirname(name) for name in names if posixpath.basename(name) in _GRAPHS})
    if folder is None and "" not in folders and len(folders) > 1:
        raise NoModel(f"has {len(folders)} SavedModels; name one at the handle's end: /{', /'.join(folders)}")
    found = folder if folder is not None else "" if "" in folders else "".join(folders)
    if found not in folders:
        return None
    inner = _below(names, found)
    wanted = [
        name for name in inner if name.startswith(_BELOW) or ("/" not in name and name.endswith(_BESIDE))
    ]
    return SavedModel(found, [posixpath.join(found, name) for name in wanted])


def of_checkpoint(names: Sequence[str], folder: str) -> list[str]:
    """The files of the checkpoint in a folder of the repository ("" is its top).

    Raises:
      NoModel: there is none.
    """
    inner = _below(names, folder)
    first = next((name for name in inner if _FIRST.fullmatch(name)), None)
    if first and "modules.json" in inner and "config.json" not in inner:
        place = posixpath.join(folder, posixpath.dirname(first))
        own = of_checkpoint(names, place)
        top = [name for name in inner if "/" not in name and name.endswith(".json")]
        modules = [name for name in inner if _MODULE.fullmatch(name) and not name.startswith("0_")]
        return [*own, *(posixpath.join(folder, name) for name in (*top, *modules))]
    weights = [name for name in inner if name.endswith(".safetensors") and "/" not in name]
    if "config.json" not in inner or not weights:
        raise NoModel(_nothing(inner, folder))
    if "model.safetensors" in weights:
        weights = ["model.safetensors"]
    elif shards := [name for name in weights if _SHARD.fullmatch(name)]:
        weights = shards
    small = [name for name in inner if "/" not in name and name.endswith((".json", ".txt", ".model"))]
    modules = [name for name in inner if _MODULE.fullmatch(name)]
    return [posixpath.join(folder, name) for name in (*small, *weights, *modules)]


def _below(names: Sequence[str], folder: str) -> list[str]:
    """The files below a folder, by their names from there."""
    start = f"{folder}/" if folder else ""
    return sorted(name.removeprefix(start) for name in names if name.startswith(start))


def _nothing(inner: Sequence[str], folder: str) -> str:
    if not inner:
        return f"has no folder {folder}" if folder else "is empty"
    more = f" and {len(inner) - _SHOWN} more" if len(inner) > _SHOWN else ""
    advice = ""
    if any(name.endswith(".bin") for name in inner):
        advice = "; .bin weights are not read, since they can run code: convert them to model.safetensors"
    where = f" in {folder}" if folder else ""
    return (
        f"has neither a SavedModel (saved_model.pb) nor a checkpoint (config.json and *.safetensors){where}; "
        f"found {', '.join(inner[:_SHOWN])}{more}{advice}"
    )

"""Reads a checkpoint's tensors from safetensors files, as float32, each when it is asked for."""

from __future__ import annotations

import json
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from transforms.errors import UsageError

# safetensors' names of the stored types; its own numpy reader lacks bfloat16 in older releases.
_DTYPES: Mapping[str, np.dtype] = {
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}


class _Stored(NamedTuple):
    path: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    start: int


class Weights(Mapping[str, np.ndarray]):
    """Tensor name -> float32 array of its own; the files are mapped, not read: a large model fits once."""

    def __init__(self, stored: Mapping[str, _Stored]) -> None:
        self._stored = stored

    def __getitem__(self, name: str) -> np.ndarray:
        path, dtype, shape, start = self._stored[name]
        return np.memmap(path, dtype, "r", start, shape).astype(np.float32)

    def __iter__(self) -> Iterator[str]:
        return iter(self._stored)

    def __len__(self) -> int:
        return len(self._stored)


def read_weights(
    folder: Path, *, expected: Mapping[str, tuple[int, ...]], prefixes: tuple[str, ...] = ()
) -> Weights:
    """Finds the expected tensors and ignores all others (poolers, position ids, heads).

    Args:
      folder: holds model.safetensors, or shards and model.safetensors.index.json.
      expected: tensor name -> shape, names without a prefix.
      prefixes: that some checkpoints put before all names.

    Returns:
      the tensors, in the order of `expected`.

    Raises:
      UsageError: no safetensors file, a corrupt one, or a tensor that is missing, mis-shaped or not a float.
    """
    found: dict[str, _Stored] = {}
    for path in _weight_files(folder):
        found |= _read_header(path, expected=expected, prefixes=prefixes)
    for name, shape in expected.items():
        if name not in found:
            raise UsageError(f"{folder}: tensor {name} is missing, expected with shape {list(shape)}")
    return Weights({name: found[name] for name in expected})


def _weight_files(folder: Path) -> list[Path]:
    index = folder / "model.safetensors.index.json"
    if (folder / "model.safetensors").exists():
        return [folder / "model.safetensors"]
    if index.exists():
        try:
            names = set(json.loads(index.read_text())["weight_map"].values())
            return [folder / name for name in sorted(names)]
        except (ValueError, KeyError, AttributeError, TypeError) as e:
            raise UsageError(f"{index}: not an index of safetensors files; expected a weight_map") from e
    if (folder / "adapter_model.safetensors").exists() or (folder / "adapter_config.json").exists():
        raise UsageError(
            f"{folder}: an adapter (LoRA), not a model; merge it into its base model and save that"
        )
    if any(folder.glob("*.gguf")):
        raise UsageError(f"{folder}: quantised GGUF weights are not supported; expected model.safetensors")
    if any(folder.glob("*.bin")):
        raise UsageError(
            f"{folder}: only PyTorch .bin weights, which are not read because they can run code; "
            "convert them to model.safetensors"
        )
    raise UsageError(f"{folder}/model.safetensors not found; expected the model's weights")


def _read_header(
    path: Path, *, expected: Mapping[str, tuple[int, ...]], prefixes: tuple[str, ...]
) -> dict[str, _Stored]:
    """Format: https://huggingface.co/docs/safetensors: header length (u64), JSON header, raw tensors."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            first = 8 + int.from_bytes(content[:8], "little")
            header, size = json.loads(content[8:first]), len(content)
        stored = {_without(name, prefixes): entry for name, entry in header.items()}
        tensors = {}
        for name in (name for name in stored if name in expected):
            kind, shape, (begin, end) = (stored[name][key] for key in ("dtype", "shape", "data_offsets"))
            if kind not in _DTYPES:
                raise UsageError(f"{path}: tensor {name} is {kind}, expected {' or '.join(_DTYPES)}")
            if tuple(shape) != expected[name]:
                wanted = f"expected {list(expected[name])} from config.json"
                raise UsageError(f"{path}: tensor {name} has shape {shape}, {wanted}")
            if end - begin != int(np.prod(shape)) * _DTYPES[kind].itemsize or first + end > size:
                raise ValueError(f"tensor {name} ends at byte {first + end:,} of {size:,}")
            tensors[name] = _Stored(path, _DTYPES[kind], tuple(shape), first + begin)
    except FileNotFoundError as e:
        raise UsageError(f"{path} not found; expected the model's weights") from e
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UsageError(f"{path}: not a whole safetensors file ({e}); download it again") from e
    return tensors


def _without(name: str, prefixes: tuple[str, ...]) -> str:
    return next((name.removeprefix(prefix) for prefix in prefixes if name.startswith(prefix)), name)

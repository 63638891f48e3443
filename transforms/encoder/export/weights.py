"""Reads a checkpoint's tensors from safetensors files, as float32."""

import json
from collections.abc import Mapping
from pathlib import Path

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


def read_weights(folder: Path, *, expected: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Reads the expected tensors and ignores all others (poolers, position ids, heads).

    Args:
      folder: holds model.safetensors, or shards and model.safetensors.index.json.
      expected: tensor name -> shape, names without the "bert." prefix that some checkpoints have.

    Returns:
      name -> float32 array, in the order of `expected`.

    Raises:
      UsageError: no safetensors file, a corrupt one, or a tensor that is missing, mis-shaped or not a float.
    """
    found: dict[str, np.ndarray] = {}
    for path in _weight_files(folder):
        found |= _read_file(path, expected=expected)
    for name, shape in expected.items():
        if name not in found:
            raise UsageError(f"{folder}: tensor {name} is missing, expected with shape {list(shape)}")
    return {name: found[name] for name in expected}


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
    if any(folder.glob("*.bin")):
        raise UsageError(
            f"{folder}: only PyTorch .bin weights, which are not read because they can run code; "
            "convert them to model.safetensors"
        )
    raise UsageError(f"{folder}/model.safetensors not found; expected the model's weights")


def _read_file(path: Path, *, expected: Mapping[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Format: https://huggingface.co/docs/safetensors: header length (u64), JSON header, raw tensors."""
    try:
        content = path.read_bytes()
        start = 8 + int.from_bytes(content[:8], "little")
        stored = {name.removeprefix("bert."): entry for name, entry in json.loads(content[8:start]).items()}
        tensors = {}
        for name in (name for name in stored if name in expected):
            kind, shape, (begin, end) = (stored[name][key] for key in ("dtype", "shape", "data_offsets"))
            if kind not in _DTYPES:
                raise UsageError(f"{path}: tensor {name} is {kind}, expected {' or '.join(_DTYPES)}")
            if tuple(shape) != expected[name]:
                wanted = f"expected {list(expected[name])} from config.json"
                raise UsageError(f"{path}: tensor {name} has shape {shape}, {wanted}")
            values = np.frombuffer(content[start + begin : start + end], _DTYPES[kind])
            tensors[name] = values.reshape(shape).astype(np.float32)
    except FileNotFoundError as e:
        raise UsageError(f"{path} not found; expected the model's weights") from e
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise UsageError(f"{path}: not a whole safetensors file ({e}); download it again") from e
    return tensors

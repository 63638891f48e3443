"""The loaded model: payloads in, float32 vectors out. Knows TF and tensorflow-hub, and no Beam."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from transforms.encoder.card import read_card, with_prompt
from transforms.encoder.config import ModelConfig
from transforms.encoder.device import import_tensorflow, prepare_device
from transforms.encoder.inputs import check_options, model_input
from transforms.encoder.messages import first_line, model_error
from transforms.encoder.model.handle import digest, resolve
from transforms.encoder.outputs import pick_output, pooled, shortened
from transforms.encoder.policy import Threads
from transforms.encoder.signature import pick_signature
from transforms.errors import ModelError, UsageError
from transforms.storage.urls import redact
from transforms.texts import Refusal

if TYPE_CHECKING:
    import pyarrow as pa

_LOG = logging.getLogger(__name__)
# How far a vector's length may be from 1: in bfloat16, of 8 bits, a unit vector's comes out .996 to 1.004.
_UNIT = 1e-2


class HubEncoder:
    """An Encoder over `hub.load`. Thread-safe: TF functions are, and nothing here changes after loading."""

    def __init__(self, config: ModelConfig):
        """Loads, checks and warms up the model.

        Raises:
          UsageError: the model is not there, is no SavedModel, or does not map the modality to vectors.
          ModelError: the digest is not the expected one.
        """
        started, asked = time.monotonic(), config
        self.handle, self.preprocessor = config.handle, config.preprocessor
        folders = [resolve(handle) for handle in (config.handle, config.preprocessor) if handle is not None]
        self.folder = folders[0]
        with ThreadPoolExecutor(1) as threads:
            # Hashing leaves Python free, and TF's import is nothing but Python.
            found = threads.submit(digest, *folders)
            tf = import_tensorflow()
            self.digest = found.result()
        if config.digest and config.digest != self.digest:
            raise ModelError(
                f"model {redact(config.handle)}: digest {self.digest} here, {config.digest} expected; "
                "the same model must lie on every machine"
            )
        found_device = prepare_device(tf, self.digest, in_flight=config.in_flight, intra_op=config.intra_op)
        self.device, self.device_name = found_device.kind, found_device.name
        self.device_memory, self.tuned = found_device.memory, found_device.tuned
        self.threads: Threads | None = found_device.threads
        loaded, card = _load(folders[0], config.handle), read_card(folders[0], config.handle)
        signatures = dict(getattr(loaded, "signatures", None) or {})
        config = with_prompt(dataclasses.replace(config, folder=str(folders[0])), card, signatures)
        if config.preprocessor is not None:
            config = dataclasses.replace(config, preprocessor=str(folders[1]))
        self.signature, function = pick_signature(tf, loaded, config)
        self._tf, self._pooling, self._cut, self._alone = tf, config.pooling, config.dim, False
        self.input = model_input(tf, loaded, function, self.signature, config)
        check_options(asked, self.input.modality.name)
        self.output = pick_output(function, config)
        self.modality, self.sample = self.input.modality, self.input.sample
        self.window, self.can_count = self.input.window, self.input.can_count
        self.prepares, self.model_dim = self.input.prepares, 0
        # What was assumed, for the user.
        self.notes: tuple[str, ...] = getattr(self.input, "notes", ())
        self.dtype, self.dim, self.unit_length = "float32", 0, False
        loaded_at = time.monotonic()
        self._warm_up(config)
        self._keep = loaded  # a loaded model's variables die with it
        self.load_seconds = loaded_at - started
        self.warm_up_seconds = time.monotonic() - loaded_at
        times = f"loaded in {self.load_seconds:.1f} s, warmed up in {self.warm_up_seconds:.1f} s"
        _LOG.info("model %s on %s: %s", redact(config.handle), self.device_name, times)

    def prepare(self, payloads: Sequence[Any]) -> tuple[Sequence[Any], dict[int, Refusal]]:
        return self.input.prepare(payloads)

    def embed(self, prepared: Sequence[Any]) -> np.ndarray:
        """Returns float32 [len(prepared), dim].

        Raises:
          ModelError: the output has not one row a payload, or another dim than the first one had.
          tf.errors.OpError: whatever the model raises.
        """
        if self._alone and len(prepared) > 1:
            return np.concatenate([self.embed([one]) for one in prepared])
        result, mask = self.input.call(prepared)
        if isinstance(result, dict):
            mask = result.get("mask") if mask is None and self.output != "mask" else mask
            result = result[self.output]
        elif isinstance(result, (list, tuple)):
            (result,) = result
        if not self.model_dim:
            self.dtype = result.dtype.name
        if mask is None and result.shape.rank == 3 and isinstance(prepared[0], str):
            self._alone = True  # it pads texts to the longest, and does not tell what is padding
        vectors = pooled(self._tf, result, mask, self._pooling).numpy()
        dim = self.model_dim or "dim"
        if vectors.ndim != 2 or len(vectors) != len(prepared) or dim not in ("dim", vectors.shape[1]):
            found = f"the model gave {list(vectors.shape)} for {len(prepared)} documents"
            raise ModelError(f"{found}, expected [{len(prepared)}, {dim}]")
        vectors = np.ascontiguousarray(vectors, dtype=np.float32)
        return shortened(vectors, self._cut, unit_length=self.unit_length) if self._cut else vectors

    def tokenize(self, payloads: Sequence[Any]) -> tuple[np.ndarray, pa.Array | None]:
        """Counts, as count_tokens, and the ids where `prepare` takes these in the payloads' place.

        Returns:
          int64 [len(payloads)], and list<int32> [len(payloads)] or None.
        """
        if not hasattr(self.input, "tokenize"):
            return self.count_tokens(payloads), None
        found: tuple[np.ndarray, pa.Array | None] = self.input.tokenize(payloads)
        return found

    def count_tokens(self, payloads: Sequence[Any]) -> np.ndarray:
        """Returns int64 [len(payloads)].

        Raises:
          ModelError: the model cannot, or it has not one number a payload.
        """
        if not self.can_count:
            raise ModelError("the model cannot count tokens: it has no signature count_tokens")
        counts = np.asarray(self.input.count(payloads), dtype=np.int64)
        if counts.shape != (len(payloads),):
            found = f"signature count_tokens gave {list(counts.shape)} for {len(payloads)} documents"
            raise ModelError(f"{found}, expected [{len(payloads)}]")
        return counts

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        return self.input.estimate(payloads)

    def _warm_up(self, config: ModelConfig) -> None:
        handle = config.handle
        cut, self._cut = self._cut, None  # what they are as a whole is seen first
        try:
            prepared, refused = self.prepare([self.sample])
            if refused:
                raise ModelError(": ".join(filter(None, refused[0])))
            vectors = self.embed(prepared)
            if self.can_count:
                self.tokenize([self.sample])
        except ModelError as e:
            raise model_error(handle, str(e)) from e
        except Exception as e:  # a model may raise anything; the user needs its first line
            advice = "" if config.modality else "; if it takes other documents, say so with `modality`"
            name = self.modality.name
            raise model_error(handle, f"fails on a sample {name}: {first_line(e)}{advice}") from e
        self.dim = self.model_dim = vectors.shape[1]
        if cut is not None and cut > self.dim:
            raise UsageError(f"dim {cut}: the model's vectors have {self.dim} numbers", argument="dim")
        if not np.isfinite(vectors).all():
            raise model_error(handle, f"gives NaN or infinity for a sample {self.modality.name}")
        # Once for the model: a rule for each document would treat its documents differently.
        self.unit_length = bool(np.all(np.abs(np.linalg.norm(vectors, axis=1) - 1) < _UNIT))
        self._cut, self.dim = cut, cut or self.dim


def _load(folder: Path, handle: str) -> Any:
    import tensorflow_hub as hub

    try:
        return hub.load(str(folder))
    except Exception as e:  # a broken SavedModel raises many kinds
        raise model_error(handle, f"cannot be loaded: {first_line(e)}") from e

"""The loaded model: strings in, float32 vectors out. Knows TF and tensorflow-hub, and no Beam."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from transforms.encoder.device import prepare_device
from transforms.encoder.model.handle import digest, redact, resolve
from transforms.encoder.signature import (
    count_signature,
    max_tokens,
    pick_output,
    pick_signature,
    string_input,
)
from transforms.errors import ModelError, UsageError

_LOG = logging.getLogger(__name__)
_SAMPLE = "embedbeam warms the model up with this sentence"


class Encoder(Protocol):
    """What the steps need of a model; tests pass fakes of it.

    Attributes:
      dim: length of a vector.
      max_tokens: the model's window in tokens, special tokens included; None if it does not say.
      can_count: whether count_tokens works.
      sample: a text that the model is known to embed.
    """

    dim: int
    max_tokens: int | None
    can_count: bool
    sample: str

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Returns float32 [len(texts), dim]; values may be NaN or infinite where the model makes them so."""

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        """Returns int64 [len(texts)]: tokens before truncation, special tokens included."""


@dataclasses.dataclass(frozen=True, slots=True)
class ModelConfig:
    """Which model, and which part of it.

    Attributes:
      handle: as the user gave it.
      signature: name of a signature; None picks serving_default, default, or the model's own call.
      output: name of the output where there are several.
      digest: expected digest; None checks nothing.
    """

    handle: str
    signature: str | None = None
    output: str | None = None
    digest: str | None = None


class HubEncoder:
    """An Encoder over `hub.load`. Thread-safe: TF functions are, and nothing here changes after loading."""

    def __init__(self, config: ModelConfig):
        """Loads, checks and warms up the model.

        Raises:
          UsageError: the model is not there, is no SavedModel, or does not map strings to vectors.
          ModelError: the digest is not the expected one.
        """
        started = time.monotonic()
        folder = resolve(config.handle)
        with ThreadPoolExecutor(1) as threads:
            # Hashing leaves Python free, and TF's import is nothing but Python.
            found = threads.submit(digest, folder)
            tf = import_tensorflow()
            self.digest = found.result()
        if config.digest and config.digest != self.digest:
            raise ModelError(
                f"--model {redact(config.handle)}: digest {self.digest} here, {config.digest} expected; "
                "the same model must lie on every machine"
            )
        self.device, self.device_name, self.device_memory = prepare_device(tf)
        loaded = _load(folder, config.handle)
        self.signature, function = pick_signature(tf, loaded, config)
        self.input_name, self._call = string_input(tf, function, config.handle, self.signature)
        self.output = pick_output(function, config)
        self._count = count_signature(tf, loaded, config.handle)
        self.can_count = self._count is not None
        self.max_tokens = max_tokens(loaded)
        self.sample = _SAMPLE
        self.dtype, self.dim = "float32", 0
        loaded_at = time.monotonic()
        self._warm_up(config.handle)
        self._keep = loaded  # a loaded model's variables die with it
        self.load_seconds = loaded_at - started
        self.warm_up_seconds = time.monotonic() - loaded_at
        _LOG.info(
            "model %s on %s: loaded in %.1f s, warmed up in %.1f s",
            redact(config.handle),
            self.device_name,
            self.load_seconds,
            self.warm_up_seconds,
        )

    def embed(self, texts: Sequence[str]) -> np.ndarray:
        """Returns float32 [len(texts), dim].

        Raises:
          ModelError: the output has not one row a text, or another dim than the first one had.
          tf.errors.OpError: whatever the model raises.
        """
        result = self._call(list(texts))
        if isinstance(result, dict):
            result = result[self.output]
        elif isinstance(result, (list, tuple)):
            (result,) = result
        if not self.dim:
            self.dtype = result.dtype.name
        vectors = result.numpy()
        if vectors.ndim != 2 or len(vectors) != len(texts) or (self.dim and vectors.shape[1] != self.dim):
            expected = f"[{len(texts)}, {self.dim or 'dim'}]"
            raise ModelError(
                f"the model gave {list(vectors.shape)} for {len(texts)} texts, expected {expected}"
            )
        return np.ascontiguousarray(vectors, dtype=np.float32)

    def count_tokens(self, texts: Sequence[str]) -> np.ndarray:
        if self._count is None:
            raise ModelError("the model cannot count tokens: it has no signature count_tokens")
        counts = np.asarray(self._count(list(texts)), dtype=np.int64)
        if counts.shape != (len(texts),):
            raise ModelError(
                f"signature count_tokens gave {list(counts.shape)} for {len(texts)} texts, "
                f"expected [{len(texts)}]"
            )
        return counts

    def _warm_up(self, handle: str) -> None:
        try:
            vectors = self.embed([_SAMPLE])
            if self.can_count:
                self.count_tokens([_SAMPLE])
        except ModelError as e:
            raise UsageError(f"--model {redact(handle)}: {e}") from e
        except Exception as e:  # a model may raise anything; the user needs its first line
            raise UsageError(f"--model {redact(handle)}: fails on a sample sentence: {first_line(e)}") from e
        self.dim = vectors.shape[1]
        if not np.isfinite(vectors).all():
            raise UsageError(f"--model {redact(handle)}: gives NaN or infinity for a sample sentence")


def import_tensorflow() -> Any:
    """Imports TF, with the ops of tensorflow-text registered."""
    # TF leaves oneDNN off on CPUs without VNNI or AMX, where its fused fp32 products are faster too.
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    with _muted_stderr():
        import tensorflow as tf
        import tensorflow_text  # noqa: F401  registers the tokenizer ops that SavedModels use

        tf.config.list_physical_devices("GPU")  # the first call is the one that complains of missing drivers
    return tf


@contextlib.contextmanager
def _muted_stderr() -> Iterator[None]:
    """While TF's libraries load they write to the file descriptor itself, whatever their log level is."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") != "3" or "tensorflow" in sys.modules:
        yield
        return
    sys.stderr.flush()
    kept, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(null)


# What stands before a TF error's own words: where in the graph, and where in the code that built it.
_PREAMBLE = re.compile(
    r"Graph execution error:|Detected at node|<stack traces unavailable>|\d+ root error|\s+File |\s{4,}"
)


def first_line(error: BaseException, limit: int = 300) -> str:
    """An exception's own words on one line: TF's messages run over many, with the graph's nodes around."""
    message = str(getattr(error, "message", None) or error)
    lines = [line for line in message.splitlines() if line.strip()]
    lines = [line for line in lines if not _PREAMBLE.match(line)] or lines or [type(error).__name__]
    return re.sub(r"^\(\d+\) ", "", lines[0].strip())[:limit]


def _load(folder: Path, handle: str) -> Any:
    import tensorflow_hub as hub

    try:
        return hub.load(str(folder))
    except Exception as e:  # a broken SavedModel raises many kinds
        raise UsageError(f"--model {redact(handle)}: cannot be loaded: {first_line(e)}") from e

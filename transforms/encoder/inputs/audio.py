"""Models that take waveforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from transforms.encoder.config import ModelConfig
from transforms.encoder.messages import model_error
from transforms.encoder.outputs import pick_output, pooled
from transforms.encoder.signature import described, tensors
from transforms.errors import UsageError
from transforms.extras import check_extra
from transforms.modality.audio import DEFAULT_RATE, TOKENS_A_SECOND, Audio, tone
from transforms.modality.recording import NEEDS
from transforms.modality.sound import BadSound
from transforms.texts import Refusal

_SECONDS = 30.0  # the window of a model that states none
_EXPECTED = "expected one tensor of floats [n], [n, samples] or [n, samples, 1]"


class AudioInput:
    """A waveform [n], or some [n, samples] or [n, samples, 1]; see ModelInput.

    Rows of one call are of one length, unless the model takes a mask of what was padded, or states how many
    samples it takes: else the vector of a clip would depend on its neighbours.
    """

    window: int | None
    can_count = False
    prepares = True

    def __init__(self, tf: Any, loaded: Any, function: Any, signature: str, config: ModelConfig):
        """Checks what the function takes.

        Raises:
          UsageError: it takes no waveforms, or is of another rate; or a package is missing.
        """
        check_extra("audio", *NEEDS, what="audio", argument="modality")
        specs, by_name = tensors(tf, function)
        takes = f"signature {signature} takes ({described(specs) or 'nothing'}), {_EXPECTED}"
        wave, self._mask = _named(specs)
        if wave is None:
            reason = "choose another `signature`, or the `modality` that fits"
            raise model_error(config.handle, f"{takes}: {reason}")
        self._wave: str = wave
        shape = specs[wave].shape.as_list()
        self._rank, self._size = len(shape), shape[1] if len(shape) > 1 else None
        if self._rank > 1 and shape[0] is not None:
            raise model_error(config.handle, f"{takes} with a free first dimension")
        self._tf, self._function, self._by_name = tf, function, by_name
        self._dtype = specs[self._wave].dtype
        self._mask_dtype = None if self._mask is None else specs[self._mask].dtype
        self._output, self._pooling = pick_output(function, config), config.pooling
        self._normalize = config.audio_normalize
        self.notes: tuple[str, ...] = ()
        rate = self._rate(loaded, config)
        self.modality = _modality(rate, self._size, config)
        self.window = self.modality.tokens(self.modality.window)
        of = self.modality
        how = f"{of.rate:,} samples a second, windows of {of.window / of.rate:.3f} s"
        how += f" that overlap by {of.overlap / of.rate:.3f} s" if of.overlap else ""
        self.described = f"{described(specs)}; {how}"
        seconds = self.modality.window / rate
        self.sample = tone(rate, seconds if self._size else min(seconds, 3.0))

    def _rate(self, loaded: Any, config: ModelConfig) -> int:
        stated = getattr(loaded, "sample_rate", None)
        if stated is None or callable(stated):
            if config.sample_rate is None:
                self.notes = (
                    f"the model does not say at which rate it takes samples: {DEFAULT_RATE:,} a second; if "
                    "that is wrong, say it with `sample_rate`",
                )
            return config.sample_rate or DEFAULT_RATE
        if config.sample_rate not in (None, int(stated)):
            reason = f"the model takes {int(stated)} samples a second; leave it out"
            raise UsageError(f"sample_rate {config.sample_rate}: {reason}", argument="sample_rate")
        return int(stated)

    def estimate(self, payloads: Sequence[Any]) -> np.ndarray:
        return self.modality.estimate(payloads)

    def count(self, payloads: Sequence[Any]) -> np.ndarray:
        raise NotImplementedError("audio has no tokens of the model's own")

    def prepare(self, payloads: Sequence[Any]) -> tuple[Sequence[Any], dict[int, Refusal]]:
        """Decodes clips: float32 [samples] of each."""
        made: list[Any] = []
        refused: dict[int, Refusal] = {}
        for row, payload in enumerate(payloads):
            try:
                samples = self.modality.samples(payload)
            except BadSound as e:
                refused[row] = e.why
                made.append(None)
                continue
            if self._normalize:  # as the feature extractor of wav2vec2 does
                samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
            made.append(samples)
        return made, refused

    def call(self, prepared: Sequence[Any]) -> tuple[Any, Any]:
        lengths = np.array([len(samples) for samples in prepared])
        if self._rank > 1 and (self._size or self._mask or (lengths == lengths[0]).all()):
            return self._padded(prepared, lengths)
        # Of one length each, or one by one; what they give is pooled here, since frames differ in number.
        vectors: list[Any] = [None] * len(prepared)
        for length in [None] if self._rank == 1 else np.unique(lengths).tolist():
            rows = range(len(prepared)) if length is None else np.flatnonzero(lengths == length).tolist()
            for some in [[row] for row in rows] if length is None else [rows]:
                for row, vector in zip(some, self._alike([prepared[row] for row in some]), strict=True):
                    vectors[row] = vector
        return self._named_as_output(self._tf.stack(vectors)), None

    def _alike(self, prepared: Sequence[Any]) -> Any:
        """Vectors [n, dim] of waveforms of one length, or of one that is not in a mini-batch."""
        value = self._picked(self._run(np.stack(prepared) if self._rank > 1 else prepared[0]))
        if self._rank == 1 and value.shape.rank == 2:
            value = value[self._tf.newaxis]
        if value.shape.rank == 3 and not value.shape[1]:
            seconds = len(prepared[0]) / self.modality.rate
            raise ValueError(f"it makes no frame of {seconds:.3f} s: too short")
        return pooled(self._tf, value, None, self._pooling)

    def _padded(self, prepared: Sequence[Any], lengths: np.ndarray) -> tuple[Any, Any]:
        """Outputs for waveforms padded with zeros, and which of their frames are sound."""
        size = self._size or int(lengths.max())
        batch = np.zeros((len(prepared), size), np.float32)
        for row, samples in enumerate(prepared):
            batch[row, : lengths[row]] = samples
        result = self._run(batch, np.arange(size) < lengths[:, np.newaxis])
        value = self._picked(result)
        if value.shape.rank != 3:
            return result, None
        frames = value.shape[1]
        real = np.maximum(1, -(-frames * lengths // size))
        return result, np.arange(frames) < real[:, np.newaxis]

    def _run(self, waves: np.ndarray, mask: np.ndarray | None = None) -> Any:
        tf = self._tf
        given = {self._wave: tf.constant(waves[..., np.newaxis] if self._rank == 3 else waves, self._dtype)}
        if self._mask is not None:
            real = np.ones(waves.shape, bool) if mask is None else mask
            given[self._mask] = tf.cast(tf.constant(real), self._mask_dtype)
        return self._function(**given) if self._by_name else self._function(*given.values())

    def _picked(self, result: Any) -> Any:
        if isinstance(result, dict):
            return result[self._output]
        return result[0] if isinstance(result, (list, tuple)) else result

    def _named_as_output(self, vectors: Any) -> Any:
        return vectors if self._output is None else {self._output: vectors}


def _named(specs: dict[str, Any]) -> tuple[str | None, str | None]:
    """The names of the waveform and of the mask of what was padded; None where there is none."""
    masks = [name for name, spec in specs.items() if "mask" in name.lower() and spec.shape.rank == 2]
    mask = masks[0] if masks and len(specs) == 2 else None
    rest = {name: spec for name, spec in specs.items() if name != mask}
    if len(rest) != 1:
        return None, None
    ((name, spec),) = rest.items()
    rank = spec.shape.rank
    fits = rank in (1, 2) or (rank == 3 and spec.shape[2] == 1)
    return (name, mask) if fits and spec.dtype.is_floating else (None, None)


def _modality(rate: int, size: int | None, config: ModelConfig) -> Audio:
    """Windows in samples: the model's own, or of so many seconds; smaller ones if `max_tokens` says so."""
    if size is not None:
        if config.window_seconds is not None and round(config.window_seconds * rate) != size:
            reason = f"the model takes {size:,} samples at once, {size / rate:.3f} s at {rate:,} a second"
            raise UsageError(f"window_seconds {config.window_seconds}: {reason}", argument="window_seconds")
        window = size
    else:
        window = max(1, round((config.window_seconds or _SECONDS) * rate))
    if config.max_tokens is not None:
        window = max(1, min(window, config.max_tokens * rate // TOKENS_A_SECOND))
    overlap = round(config.overlap_seconds * rate)
    if overlap >= window:
        of = " (see `max_tokens`)" if config.max_tokens is not None else ""
        reason = f"expected less than the window, {window / rate:.3f} s{of}"
        raise UsageError(f"overlap_seconds {config.overlap_seconds}: {reason}", argument="overlap_seconds")
    return Audio(rate, window, overlap)

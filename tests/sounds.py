"""Recordings written by several libraries, and small SavedModels in signatures of TF Hub."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path

import av
import numpy as np
import soundfile
import tensorflow as tf

RATE = 16_000


def wave(seconds: float, rate: int = RATE, *, seed: int = 0, channels: int = 1) -> np.ndarray:
    """A chord that changes, and noise; float32 [samples, channels]."""
    random = np.random.default_rng(seed)
    t = np.arange(round(seconds * rate)) / rate
    parts = [np.sin(2 * np.pi * hz * t * (1 + 0.01 * t)) for hz in random.uniform(100, 3000, 4)]
    mono = 0.1 * np.sum(parts, axis=0) + 0.02 * random.standard_normal(len(t))
    return np.stack([mono / (c + 1) for c in range(channels)], axis=1).astype(np.float32)


def encoded(samples: np.ndarray, rate: int = RATE, kind: str = "WAV", subtype: str | None = None) -> bytes:
    """A file as libsndfile writes it."""
    made = io.BytesIO()
    soundfile.write(made, samples, rate, format=kind, subtype=subtype)
    return made.getvalue()


def contained(samples: np.ndarray, rate: int, container: str, codec: str) -> bytes:
    """A file as FFmpeg writes it; mono."""
    made = io.BytesIO()
    with av.open(made, "w", format=container) as out:
        stream = out.add_stream(codec, rate=rate)
        stream.layout = "mono"
        frame = av.AudioFrame.from_ndarray(
            np.ascontiguousarray(samples[:, :1].T), format="fltp", layout="mono"
        )
        frame.sample_rate, frame.pts = rate, 0
        for packet in [*stream.encode(frame), *stream.encode(None)]:
            out.mux(packet)
    return made.getvalue()


class Yamnet(tf.Module):
    """Frames of 0.96 s, one every 0.48 s, as YAMNet: scores, embeddings and a spectrogram, without names."""

    def __init__(self, *, rate: int | None = RATE):
        super().__init__()
        random = np.random.default_rng(7)
        self.mix = tf.Variable(random.normal(0, 0.1, (64, 24)).astype(np.float32))
        self.classes = tf.Variable(random.normal(0, 0.1, (24, 10)).astype(np.float32))
        if rate:
            self.sample_rate = tf.Variable(rate, trainable=False)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, name="waveform")])
    def serve(self, waveform):
        spectrum = tf.abs(tf.signal.stft(waveform, 400, 160, 512))
        mel = tf.signal.linear_to_mel_weight_matrix(64, 257, RATE, 125.0, 7500.0)
        log_mel = tf.math.log(spectrum @ mel + 0.001)
        patches = tf.signal.frame(log_mel, 96, 48, axis=0)
        embeddings = tf.nn.relu(tf.reduce_mean(patches, axis=1) @ self.mix)
        scores = tf.sigmoid(embeddings @ self.classes)
        return {"output_0": scores, "output_1": embeddings, "output_2": log_mel}


class Wav2Vec(tf.Module):
    """Strided convolutions over the waveform, and one layer of attention: vectors of 20 ms each."""

    def __init__(self, *, size: int | None = None, mask: bool = False):
        super().__init__()
        random = np.random.default_rng(8)
        shapes = [(400, 1, 16), (3, 16, 16)]
        self.filters = [tf.Variable(random.normal(0, 0.2, shape).astype(np.float32)) for shape in shapes]
        self.query = tf.Variable(random.normal(0, 0.3, (16, 16)).astype(np.float32))
        specs = [tf.TensorSpec([None, size], tf.float32, name="input_values")]
        if mask:
            specs.append(tf.TensorSpec([None, size], tf.int32, name="attention_mask"))
        self.serve = tf.function(self._masked if mask else self._serve, input_signature=specs)

    def _serve(self, input_values):
        return self._masked(input_values, tf.ones(tf.shape(input_values), tf.int32))

    def _masked(self, input_values, attention_mask):
        real = tf.cast(attention_mask, tf.float32)
        hidden = tf.nn.conv1d((input_values * real)[..., tf.newaxis], self.filters[0], 320, "SAME")
        there = real[:, ::320]
        hidden = tf.nn.relu(
            tf.nn.conv1d(tf.nn.tanh(hidden) * there[..., tf.newaxis], self.filters[1], 1, "SAME")
        )
        scores = tf.matmul(hidden @ self.query, hidden, transpose_b=True) - 1e9 * (1 - there[:, tf.newaxis])
        hidden = hidden + tf.nn.softmax(scores) @ hidden
        return {"last_hidden_state": hidden}


class Clips(tf.Module):
    """A vector for each waveform [n, samples], whose name tells nothing."""

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.float32, name="inputs")])
    def serve(self, inputs):
        spectrum = tf.abs(tf.signal.stft(inputs, 512, 256, 512))
        return {"embedding": tf.reduce_mean(spectrum[..., 1:33], axis=1)}


def save(module: tf.Module, folder: Path | str) -> str:
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return str(folder)


def basic_pitch() -> str:
    """A real audio model, as its package carries it: files are read, none of its code is run."""
    found = importlib.util.find_spec("basic_pitch")
    assert found is not None, "make install-dev installs it"
    (folder,) = found.submodule_search_locations or []
    return str(Path(folder, "saved_models", "icassp_2022", "nmp"))


def silence(seconds: int) -> bytes:
    """Silence in FLAC, a thousand samples a second, written an hour at a time."""
    made = io.BytesIO()
    with soundfile.SoundFile(made, "w", 1000, 1, "PCM_16", format="FLAC") as file:
        for begin in range(0, seconds, 3600):
            file.write(np.zeros(min(3600, seconds - begin) * 1000, np.float32))
    return made.getvalue()

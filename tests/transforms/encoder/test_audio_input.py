"""Models of sound, called directly on the same file decoded by another library: the same vectors."""

from __future__ import annotations

import functools
import io
import wave
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import sounds
import tensorflow as tf

from transforms.encoder.config import ModelConfig
from transforms.encoder.hub import HubEncoder
from transforms.encoder.robust import RobustEncoder
from transforms.errors import UsageError
from transforms.modality.audio import Clip

MODELS = {
    "yamnet": lambda: sounds.Yamnet(),
    "silent": lambda: sounds.Yamnet(rate=None),
    "wav2vec": lambda: sounds.Wav2Vec(),
    "masked": lambda: sounds.Wav2Vec(mask=True),
    "fixed": lambda: sounds.Wav2Vec(size=32_000),
    "clips": lambda: sounds.Clips(),
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("audio")
    made = {name: sounds.save(make(), folder / name) for name, make in MODELS.items()}
    return made | {"pitch": sounds.basic_pitch()}


@functools.cache
def _loaded(path: str, about: tuple[tuple[str, Any], ...]) -> HubEncoder:
    return HubEncoder(ModelConfig(path, **dict(about)))


def encoder(models: dict[str, str], name: str, **about: Any) -> HubEncoder:
    return _loaded(models[name], tuple(sorted(about.items())))


def files(rate: int = 16_000, kind: str = "WAV") -> list[bytes]:
    """Three recordings of other lengths."""
    return [
        sounds.encoded(sounds.wave(s, rate, seed=i), rate, kind) for i, s in enumerate((1.2, 1.9, 1.2, 1.5))
    ]


def by_wave(data: bytes) -> np.ndarray:
    """A mono WAV file of 16 bits by the standard library."""
    with wave.open(io.BytesIO(data)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), "<i2").astype(np.float32) / 32768


def by_ffmpeg(data: bytes, rate: int) -> np.ndarray:
    """Decoded, and resampled, by FFmpeg."""
    resampler = av.AudioResampler(format="fltp", layout="mono", rate=rate)
    with av.open(io.BytesIO(data)) as file:
        frames = [made for frame in file.decode(audio=0) for made in resampler.resample(frame)]
    frames += resampler.resample(None)
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


@functools.cache
def _function(path: str) -> Any:
    loaded = tf.saved_model.load(path)
    function = loaded.signatures["serving_default"]
    function._keep = loaded  # a loaded model's variables die with it
    return function


def direct(path: str, *values: Any, output: str) -> np.ndarray:
    """The model's own output."""
    function = _function(path)
    names = sorted(function.structured_input_signature[1])
    given = {name: tf.constant(value) for name, value in zip(names, values, strict=True)}
    return function(**given)[output].numpy()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def embedded(of: HubEncoder, data: list[bytes]) -> np.ndarray:
    vectors, failures, _ = RobustEncoder(of).embed(of.prepare(data), [1] * len(data))
    assert failures == {}
    return vectors


@pytest.mark.parametrize("pooling", ["mean", "max", "last", "cls"])
def test_frames_of_a_waveform_are_pooled(models: dict[str, str], pooling: str) -> None:
    of = encoder(models, "yamnet", output="output_1", pooling=pooling)
    assert (of.modality.name, of.modality.rate, of.dim, of.notes) == ("audio", 16_000, 24, ())
    assert of.input.described == "waveform: float32 [n]; 16,000 samples a second, windows of 30.000 s"
    how = {
        "mean": lambda f: f.mean(0),
        "max": lambda f: f.max(0),
        "last": lambda f: f[-1],
        "cls": lambda f: f[0],
    }
    frames = [direct(models["yamnet"], by_wave(data), output="output_1") for data in files()]
    assert len({len(f) for f in frames}) > 1
    assert cosines(embedded(of, files()), np.stack([how[pooling](f) for f in frames])).min() > 0.99999


@pytest.mark.parametrize("name", ["wav2vec", "masked", "clips"])
def test_vectors_do_not_depend_on_their_neighbours(models: dict[str, str], name: str) -> None:
    of = encoder(models, name, modality="audio")
    output = "embedding" if name == "clips" else "last_hidden_state"
    expected = []
    for data in files():
        samples = by_wave(data)[np.newaxis]
        mask = [np.ones(samples.shape, np.int32)] if name == "masked" else []
        # By names in alphabetical order, as TF gives them.
        values = [*mask, samples]
        found = direct(models[name], *values, output=output)
        expected.append(found[0] if found.ndim == 2 else found.mean(1)[0])
    assert cosines(embedded(of, files()), np.stack(expected)).min() > 0.99999


def test_waveforms_of_a_stated_length_are_padded_and_their_frames_counted(models: dict[str, str]) -> None:
    of = encoder(models, "fixed")
    assert (of.modality.window, of.window) == (32_000, 200)
    expected = []
    for data in files():
        samples = by_wave(data)
        padded = np.pad(samples, (0, 32_000 - len(samples)))[np.newaxis]
        frames = direct(models["fixed"], padded, output="last_hidden_state")[0]
        expected.append(frames[: -(-len(frames) * len(samples) // 32_000)].mean(0))
    assert cosines(embedded(of, files()), np.stack(expected)).min() > 0.99999


def test_waveforms_are_normalized_as_wav2vec2_wants_them(models: dict[str, str]) -> None:
    of = encoder(models, "wav2vec", audio_normalize=True)
    samples = by_wave(files()[0])
    samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    expected = direct(models["wav2vec"], samples[np.newaxis], output="last_hidden_state").mean(1)
    assert cosines(embedded(of, files()[:1]), expected).min() > 0.99999
    assert cosines(embedded(encoder(models, "wav2vec"), files()[:1]), expected).max() < 0.999


@pytest.mark.parametrize("output", ["contour", "note"])
@pytest.mark.parametrize(("rate", "kind"), [(22_050, "WAV"), (22_050, "FLAC"), (44_100, "WAV")])
def test_a_real_model_of_pitch(models: dict[str, str], output: str, rate: int, kind: str) -> None:
    of = encoder(models, "pitch", modality="audio", sample_rate=22_050, output=output)
    assert of.modality.window == 43_844
    expected = []
    for data in files(rate, kind):
        samples = by_ffmpeg(data, 22_050)
        padded = np.pad(samples, (0, 43_844 - len(samples)))[np.newaxis, :, np.newaxis]
        frames = direct(models["pitch"], padded, output=output)[0]
        expected.append(frames[: -(-172 * len(samples) // 43_844)].mean(0))
    assert cosines(embedded(of, files(rate, kind)), np.stack(expected)).min() > 0.99999


def test_a_damaged_recording_is_a_refusal_among_sound_ones(models: dict[str, str]) -> None:
    of = encoder(models, "silent", output="output_1")
    cut = sounds.encoded(sounds.wave(9), kind="MP3")[:30_000]
    short = Clip(sounds.encoded(sounds.wave(3)), 0, 3000)  # less than a frame
    vectors, failures, _ = RobustEncoder(of).embed(of.prepare([files()[0], cut, short]), [1, 1, 1])
    assert failures[1][0] == "damaged audio"
    assert failures[2] == ("the model refuses it", "ValueError: it makes no frame of 0.188 s: too short")
    assert np.allclose(vectors[0], embedded(of, files()[:1])[0])


def test_windows_that_max_tokens_makes_small_are_counted_as_they_are(models: dict[str, str]) -> None:
    of = encoder(models, "wav2vec", max_tokens=10, overlap_seconds=0.05).modality
    assert (of.window, of.overlap) == (1_600, 800)
    _, refused = of.decode({"audio": [sounds.silence(3_600)]})
    assert refused == {0: ("too long", "71,999 windows, expected at most 65,536; cut the recording")}


def test_an_assumed_rate_is_said(models: dict[str, str]) -> None:
    (note,) = encoder(models, "silent", output="output_1").notes
    assert note.startswith("the model does not say at which rate it takes samples: 16,000 a second")
    assert encoder(models, "silent", output="output_1", sample_rate=8_000).notes == ()


@pytest.mark.parametrize(
    ("name", "about", "message"),
    [
        ("yamnet", {}, "has several outputs that hold vectors"),
        (
            "yamnet",
            {"output": "output_1", "sample_rate": 8000},
            "sample_rate 8000: the model takes 16000 samples",
        ),
        ("pitch", {"output": "note"}, "which does not tell what the documents are"),
        ("pitch", {"output": "note", "modality": "text"}, "expected one string tensor"),
        (
            "fixed",
            {"window_seconds": 5.0},
            "window_seconds 5.0: the model takes 32,000 samples at once, 2.000 s",
        ),
        (
            "wav2vec",
            {"overlap_seconds": 1.0, "max_tokens": 50},
            "overlap_seconds 1.0: expected less than the window, 0.500 s (see `max_tokens`)",
        ),
        (
            "wav2vec",
            {"overlap_seconds": 30.0},
            "overlap_seconds 30.0: expected less than the window, 30.000 s",
        ),
    ],
)
def test_what_does_not_fit_is_said(models: dict[str, str], name: str, about: Any, message: str) -> None:
    with pytest.raises(UsageError, match="") as raised:
        encoder(models, name, **about)
    assert message in str(raised.value)


def test_a_text_model_is_no_model_of_sound(model: Path) -> None:
    with pytest.raises(UsageError, match=r"expected one tensor of floats \[n\], \[n, samples\]"):
        HubEncoder(ModelConfig(str(model), modality="audio"))


def test_a_missing_package_is_one_line(models: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "soxr" else object())
    with pytest.raises(UsageError, match=r"audio needs soxr: pip install 'embedbeam\[audio\]'"):
        HubEncoder(ModelConfig(models["wav2vec"]))

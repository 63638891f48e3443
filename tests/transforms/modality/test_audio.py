"""Recordings: decoded window by window as if whole, split by their headers, refused with a reason."""

from __future__ import annotations

import io
import struct

import av
import numpy as np
import pyarrow as pa
import pytest
import sounds
import soxr
from hypothesis import given
from hypothesis import strategies as st

from transforms.elements import ABSENT
from transforms.modality.audio import Audio, Clip, tone
from transforms.modality.recording import opened, resampled, resampled_length
from transforms.modality.sound import BadSound

LOSSLESS = [("WAV", "PCM_16"), ("WAV", "FLOAT"), ("FLAC", "PCM_24"), ("AIFF", "PCM_16")]
LOSSY = [("OGG", "VORBIS"), ("OGG", "OPUS"), ("MP3", None)]
CONTAINERS = [("mp4", "aac"), ("matroska", "aac"), ("caf", "alac"), ("adts", "aac")]
# Most that samples of a window differ from those of the whole; the signal's are about 0.2.
SAME = 2e-6


def count(payloads: list[bytes]) -> np.ndarray:
    return Audio().estimate(payloads)


@pytest.mark.parametrize(("kind", "subtype"), LOSSLESS + LOSSY)
@pytest.mark.parametrize("rate", [48_000, 8_000])
def test_a_window_is_resampled_as_in_the_whole(kind: str, subtype: str | None, rate: int) -> None:
    data = sounds.encoded(sounds.wave(9, rate, channels=2), rate, kind, subtype)
    sound = opened(data)
    mono = sound.read(0, sound.frames, sound.frames)
    for to in (16_000, 22_050, rate):
        whole = mono if to == rate else soxr.resample(mono, rate, to)
        assert len(whole) == resampled_length(len(mono), rate, to)
        for start, stop in [(0, to), (to * 3 + 17, to * 5 + 1), (len(whole) - to - 5, len(whole))]:
            window = resampled(opened(data), to, start, stop)
            assert window.dtype == np.float32
            assert np.abs(window - whole[start:stop]).max() < SAME


@pytest.mark.parametrize(("container", "codec"), CONTAINERS)
def test_containers_are_read_by_ffmpeg(container: str, codec: str) -> None:
    wave = sounds.wave(6, 44_100)
    data = sounds.contained(wave, 44_100, container, codec)
    sound = opened(data)
    assert sound.rate == 44_100
    assert abs(sound.frames - len(wave)) < 3 * 1024  # what encoders put before and after
    whole = soxr.resample(sound.read(0, sound.frames, sound.frames), 44_100, 16_000)
    window = resampled(opened(data), 16_000, 40_001, 64_007)
    if codec == "alac":
        assert np.abs(window - whole[40_001:64_007]).max() < SAME
    else:  # AAC has noise that a decoder makes up as it goes: windows are alike, and the same each time
        assert np.corrcoef(window, whole[40_001:64_007])[0, 1] > 0.9
    assert np.array_equal(resampled(opened(data), 16_000, 40_001, 64_007), window)
    if container in ("mp4", "caf"):  # which say where sound begins
        direct = np.concatenate(
            [f.to_ndarray().reshape(-1) for f in av.open(io.BytesIO(data)).decode(audio=0)]
        )
        made = sound.read(0, sound.frames, sound.frames)
        scale = 1.0 if direct.dtype.kind == "f" else 2.0 ** (8 * direct.itemsize - 1)
        assert np.corrcoef(direct[: len(made)] / scale, made)[0, 1] > (0.9 if codec == "aac" else 0.999999)


def test_mono_is_the_mean_of_the_channels() -> None:
    left, right = sounds.wave(1, seed=1)[:, 0], sounds.wave(1, seed=2)[:, 0]
    data = sounds.encoded(np.stack([left, right], axis=1), subtype="FLOAT")
    assert np.abs(Audio().samples(data) - (left + right) / 2).max() < 1e-7


NAN = sounds.wave(1)
NAN[500] = np.nan
WAV = sounds.encoded(sounds.wave(3))
MP3 = sounds.encoded(sounds.wave(3), kind="MP3")
AAC = sounds.contained(sounds.wave(3, 48_000), 48_000, "adts", "aac")
BAD = {
    "empty": (b"", "no audio: the file is empty"),
    "text": (b"hello " * 50, "not audio: libsndfile: Format not recognised. FFmpeg: "),
    "playlist": (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n", "not audio: "),
    "no samples": (sounds.encoded(NAN[:0]), "no audio: it has no samples"),
    "cut wav": (WAV[:40_000], "damaged audio: truncated: 40,000 bytes, its header says 96,044"),
    "cut ogg": (
        sounds.encoded(sounds.wave(3), kind="OGG")[:9000],
        "damaged audio: truncated: the stream's last",
    ),
    "cut in its first frame": (MP3[:60], "not audio: libsndfile: no frame of it is whole. FFmpeg: "),
    "rate": (WAV[:24] + struct.pack("<I", 7) + WAV[28:], "damaged audio: 7 samples a second"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_recording_is_refused_when_it_is_read(name: str) -> None:
    data, reason = BAD[name]
    payloads, refused = Audio().decode({"audio": [WAV, data, WAV]})
    assert payloads.to_pylist() == [WAV, None, WAV]
    assert list(refused) == [1]
    assert ": ".join(refused[1]).startswith(reason)


@pytest.mark.parametrize("data", [MP3[:20], MP3[:60], MP3[:400], WAV[:60]])
def test_seeking_out_of_a_damaged_file_writes_nothing_to_the_screen(
    data: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    Audio().decode({"audio": [data]})
    assert "Exception ignored" not in capsys.readouterr().err


def test_what_is_no_bytes_is_refused() -> None:
    values = [ABSENT, None, "text", WAV]
    _, refused = Audio().decode({"sound": values})
    assert refused == {
        0: ("missing field 'sound'", ""),
        1: ("field 'sound' is null", ""),
        2: ("field 'sound' is str, expected bytes", ""),
    }
    payloads, refused = Audio().decode({"sound": pa.array([WAV, None], pa.large_binary())})
    assert (payloads.type, list(refused)) == (pa.binary(), [1])


LATER = {
    "aac without times": (
        AAC[:3] + b"\xff" + AAC[4:],
        "damaged audio: a frame does not say when it is heard; fetch the file again",
    ),
    "nan": (sounds.encoded(NAN, subtype="FLOAT"), "damaged audio: NaN or infinity among its samples"),
    "cut flac": (sounds.encoded(sounds.wave(9), kind="FLAC")[:150_000], "damaged audio: "),
    "cut mp3": (sounds.encoded(sounds.wave(9), kind="MP3")[:30_000], "damaged audio: ends after "),
    "cut webm": (
        sounds.contained(sounds.wave(9, 48_000), 48_000, "webm", "libopus")[:40_000],
        "damaged audio: ends after ",
    ),
}


@pytest.mark.parametrize("name", LATER)
def test_what_is_damaged_inside_is_refused_when_it_is_decoded(name: str) -> None:
    data, reason = LATER[name]
    with pytest.raises(BadSound) as raised:
        Audio().samples(data)
    assert ": ".join(raised.value.why).startswith(reason)


def test_a_short_file_of_ten_hours_is_windows_and_no_memory() -> None:
    """Ten hours of silence in FLAC: legitimate, and decoded one window after the other."""
    silence = sounds.silence(36_000)
    assert len(silence) < 200_000
    (spans,) = Audio().split([silence], window=3000, overlap=0, count=count)
    assert len(spans) == 1200
    start, end, _ = spans[-1].tolist()
    assert not Audio().samples(Clip(pa.py_buffer(silence), start, end)).any()
    _, refused = Audio(window=8_000).decode({"audio": [silence]})
    assert refused == {0: ("too long", "72,000 windows, expected at most 65,536; cut the recording")}


@given(
    st.floats(0.05, 200),
    st.floats(0.1, 40),
    st.floats(0, 0.9),
    st.sampled_from([8_000, 16_000, 22_050, 44_100]),
)
def test_windows_cover_all_of_a_recording(seconds: float, window: float, overlap: float, rate: int) -> None:
    size = max(1, round(window * rate))
    audio = Audio(rate, size, min(size - 1, round(overlap * size)))
    length = round(seconds * rate)
    spans = audio._spans(length, size)
    starts, ends, tokens = spans.T
    assert starts[0] == 0
    assert ends[-1] == length
    assert (starts[1:] <= ends[:-1]).all()  # no gap
    assert (ends - starts <= size).all()
    assert (ends - starts >= min(length, size, rate)).all()  # no snippet at the end
    assert (np.diff(ends) > 0).all()  # each holds something new
    assert (tokens >= 1).all()
    assert (len(spans) == 1) == (audio.tokens(length) <= audio.tokens(size))
    assert len(spans) == audio._windows(length, size)


def test_windows_in_seconds() -> None:
    audio = Audio(window=2 * 16_000, overlap=8_000)
    data = sounds.encoded(sounds.wave(5, 44_100), 44_100)
    (spans,) = audio.split([data], window=audio.tokens(audio.window), overlap=0, count=count)
    assert audio.place(spans[:, 0]).tolist() == [0.0, 1.5, 3.0]
    assert audio.place(spans[:, 1]).tolist() == [2.0, 3.5, 5.0]
    assert spans[:, 2].tolist() == [200, 200, 200]
    (cut,) = audio.split([data], window=100, overlap=0, count=count, most=2)  # `max_tokens` is a second
    assert cut[:, 1].tolist() == [16_000, 24_000]


def test_a_tone_is_a_recording() -> None:
    audio = Audio(rate=22_050)
    assert audio.length(tone(22_050, 0.5)) == 11_025
    assert 0.05 < np.abs(audio.samples(tone(22_050, 0.5))).max() < 0.1
    assert audio.shown(b"x" * 1234) == "1,234 bytes of audio"

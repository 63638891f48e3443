"""Encoded images as payloads."""

import hashlib

import numpy as np
import pyarrow as pa
import pytest

from transforms import modality
from transforms.elements import ABSENT
from transforms.modality.image import Image, cost_of, kind_of

PNG = b"\x89PNG\r\n\x1a\n" + bytes(100)


@pytest.mark.parametrize(
    "values",
    [
        [PNG, None, b"", "text", 7, ABSENT, bytearray(PNG)],
        pa.array([PNG, None, b""], pa.binary()),
        pa.array([PNG, None, b""], pa.large_binary()),
        pa.array([PNG, None, b""], pa.binary()).dictionary_encode(),
    ],
)
def test_what_is_refused(values):
    expected = {
        1: ("field 'image' is null", ""),
        2: ("empty image", "no bytes"),
        3: ("field 'image' is str, expected an encoded image (bytes)", ""),
        4: ("field 'image' is int, expected an encoded image (bytes)", ""),
        5: ("missing field 'image'", ""),
    }
    payloads, refused = Image().decode({"image": values})
    assert payloads.type == pa.binary()
    assert refused == {row: why for row, why in expected.items() if row < len(values)}
    assert payloads.to_pylist() == [None if row in refused else PNG for row in range(len(values))]


def test_what_a_payload_is():
    image = modality.get("image", cost=7)
    payloads = pa.array([PNG, b"\xff\xd8\xff"], pa.binary())
    assert image.estimate([PNG, b"x"]).tolist() == [7, 7]
    assert image.weight(payloads).tolist() == [108, 3]
    assert image.shown(PNG) == "png of 108 bytes"
    assert image.shown("a text") == "no image, str"
    digest = hashlib.sha256(b"key" + PNG).digest()[:16]
    assert image.fingerprint(payloads, b"key")[0].as_py() == digest
    assert [spans.tolist() for spans in image.split([PNG], window=5, overlap=0, count=np.array)] == [
        [[0, 0, 5]]
    ]


def test_costs_grow_with_the_pixels_that_the_model_sees():
    assert [cost_of(side, side) for side in (16, 96, 224, 299)] == [1, 36, 196, 350]
    assert Image().cost == cost_of(224, 224)


def test_kinds():
    webp = b"RIFF\x10\0\0\0WEBPVP8 "
    known = [
        b"\xff\xd8\xff\xe1",
        PNG,
        b"GIF87a",
        b"BM",
        b"II*\0",
        b"MM\0*",
        b"MM\0+",
        webp,
        b"RIFF....WAVE",
        b"",
    ]
    found = ["jpeg", "png", "gif", "bmp", "tiff", "tiff", "tiff", "webp", None, None]
    assert [kind_of(data) for data in known] == found

"""Images of every kind into pixels: what they must be, and what is none."""

import io
import struct
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pictures
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from transforms.encoder.inputs import pixels
from transforms.encoder.inputs.opening import MOST_PIXELS, Unfit, loaded, opened
from transforms.encoder.inputs.pixels import Room, Shape

SMALL = Shape(24, 32)
PHOTO = pictures.photo(1, 64, 48)


def reference(image: Image.Image, shape: Shape = SMALL) -> np.ndarray:
    """What Pillow alone makes of an image in RGB."""
    return np.asarray(image.convert("RGB").resize((shape.width, shape.height), Image.Resampling.BILINEAR))


def refused(data: bytes, shape: Shape = SMALL) -> tuple[str, str]:
    with pytest.raises(Unfit) as caught:
        shape.pixels(data)
    return caught.value.refusal


# Kinds and modes


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF", "WEBP", "JPEG"])
def test_every_kind_gives_what_pillow_gives(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    data = pictures.encoded(PHOTO, kind, **options)
    assert np.array_equal(SMALL.pixels(data), reference(Image.open(io.BytesIO(data))))
    if kind in ("PNG", "BMP", "TIFF", "WEBP"):
        assert np.array_equal(Shape(48, 64).pixels(data), PHOTO)


@pytest.mark.parametrize("options", [{"compression": "tiff_lzw"}, {"compression": "tiff_adobe_deflate"}])
def test_compressed_tiff(options):
    assert np.array_equal(Shape(48, 64).pixels(pictures.encoded(PHOTO, "TIFF", **options)), PHOTO)


@pytest.mark.parametrize(("kind", "expected"), [("GIF", 1), ("WEBP", 1), ("PNG", 1), ("TIFF", 1)])
def test_the_first_of_several_frames(kind, expected):
    frames = [Image.new("RGB", (64, 48), colour) for colour in ((200, 10, 10), (10, 200, 10))]
    data = pictures.encoded(
        frames[0],
        kind,
        save_all=True,
        append_images=frames[1:],
        **({"lossless": True} if kind == "WEBP" else {}),
    )
    assert Image.open(io.BytesIO(data)).n_frames == 2
    assert SMALL.pixels(data)[5, 5].tolist() == [200, 10, 10]


def test_alpha_is_laid_over_white():
    half = np.dstack([PHOTO, np.full((48, 64), 255, np.uint8)])
    half[:, 32:, 3] = 0
    for kind in ("PNG", "TIFF", "WEBP"):
        options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
        made = Shape(48, 64).pixels(pictures.encoded(half, kind, **options))
        assert np.array_equal(made[:, :32], PHOTO[:, :32])
        assert (made[:, 32:] == 255).all()
    faint = pictures.encoded(np.full((8, 8, 4), (0, 0, 0, 51), np.uint8), "PNG")
    assert (Shape(4, 4).pixels(faint) == 204).all()


def test_a_palette_with_a_transparent_colour():
    image = Image.new("P", (8, 8), 0)
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.paste(1, (0, 0, 4, 8))
    made = Shape(8, 8).pixels(pictures.encoded(image, "PNG", transparency=0))
    assert made[0, 0].tolist() == [0, 0, 255]
    assert made[0, 7].tolist() == [255, 255, 255]


def test_grey_and_black_and_white():
    grey = PHOTO[..., 0]
    made = Shape(48, 64).pixels(pictures.encoded(grey, "PNG"))
    assert np.array_equal(made, np.dstack([grey] * 3))
    assert np.array_equal(Shape(48, 64, channels=1).pixels(pictures.encoded(grey, "PNG"))[..., 0], grey)
    bits = Image.fromarray(grey).convert("1")
    assert np.array_equal(Shape(48, 64).pixels(pictures.encoded(bits, "PNG"))[..., 0], np.asarray(bits) * 255)


def test_grey_of_colours_and_of_alpha():
    made = Shape(48, 64, channels=1).pixels(pictures.encoded(PHOTO, "PNG"))
    assert np.array_equal(made[..., 0], np.asarray(Image.fromarray(PHOTO).convert("L")))
    clear = pictures.encoded(np.zeros((8, 8, 4), np.uint8), "PNG")
    assert (Shape(8, 8, channels=1).pixels(clear) == 255).all()


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits(kind):
    deep = (PHOTO[..., 0].astype(np.uint16) << 8) + 77
    assert np.array_equal(Shape(48, 64).pixels(pictures.encoded(deep, kind))[..., 2], PHOTO[..., 0])


def test_thirty_two_bits_have_no_range():
    data = pictures.encoded(PHOTO[..., 0].astype(np.float32), "TIFF")
    assert refused(data)[1].startswith("numbers of 32 bits a pixel")


def test_cmyk_as_adobe_writes_it():
    """Adobe stores ink inverted, and so does Pillow when it writes; the colours come back."""
    plain = Image.new("RGB", (64, 48), (200, 100, 30))
    data = pictures.encoded(plain.convert("CMYK"), "JPEG", quality=98)
    assert b"Adobe" in data[:100]
    assert abs(SMALL.pixels(data).astype(int) - (200, 100, 30)).max() <= 3


@pytest.mark.parametrize("turned", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_turns_images(turned, kind):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = turned
    options = {"lossless": True} if kind == "WEBP" else {"quality": 95} if kind == "JPEG" else {}
    data = pictures.encoded(PHOTO, kind, exif=exif, **options)
    expected = reference(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    made = SMALL.pixels(data)
    assert np.abs(made.astype(int) - expected).max() <= 1  # turned after it was made small, not before


def test_broken_exif_turns_nothing():
    data = pictures.encoded(PHOTO, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    assert np.array_equal(SMALL.pixels(data), reference(Image.open(io.BytesIO(data))))


# Sizes


def test_crop_and_stretch_are_keras_own(tmp_path):
    from keras.utils import load_img

    path = tmp_path / "photo.png"
    for width, height in ((64, 48), (31, 80), (200, 9)):
        path.write_bytes(pictures.encoded(pictures.photo(2, width, height), "PNG"))
        for how, keep in (("crop", True), ("stretch", False)):
            for interpolation in ("nearest", "bilinear", "bicubic", "lanczos"):
                shape = Shape(24, 32, resize=how, interpolation=interpolation)
                image = load_img(
                    path, target_size=(24, 32), interpolation=interpolation, keep_aspect_ratio=keep
                )
                assert np.array_equal(shape.pixels(path.read_bytes()), np.asarray(image)), (
                    how,
                    interpolation,
                )


def test_pad_has_black_bars_on_both_sides():
    made = Shape(24, 32, resize="pad").pixels(pictures.encoded(np.full((60, 60, 3), 200, np.uint8), "PNG"))
    assert (made[:, 4:28] == 200).all()
    assert (made[:, :4] == 0).all()
    assert (made[:, 28:] == 0).all()
    clear = Shape(24, 32, resize="pad").pixels(pictures.encoded(np.zeros((60, 60, 4), np.uint8), "PNG"))
    assert (clear[:, 4:28] == 255).all()


@pytest.mark.parametrize("resize", ["stretch", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (33, 25)])
def test_any_proportions(resize, size):
    data = pictures.encoded(Image.new("RGB", size, (9, 8, 7)), "PNG")
    made = Shape(24, 32, resize=resize).pixels(data)
    assert made.shape == (24, 32, 3)
    assert (9, 8, 7) in set(map(tuple, made.reshape(-1, 3).tolist()))


def test_a_huge_jpeg_is_decoded_at_a_part_of_its_size(monkeypatch):
    sizes = []
    load = pixels.loaded
    monkeypatch.setattr(pixels, "loaded", lambda image: sizes.append(image.size) or load(image))
    data = pictures.jpeg(3, 1600, 1200)
    made = Shape(96, 96).pixels(data)
    assert sizes == [(1600, 1200)]
    monkeypatch.setattr(pixels, "_LARGE", 1_000_000)
    made = Shape(96, 96).pixels(data)
    assert sizes.pop() == (800, 600)
    full = reference(Image.open(io.BytesIO(data)), Shape(96, 96))
    assert np.abs(made.astype(int) - full).mean() < 0.5
    Shape(96, 96, interpolation="nearest").pixels(data)
    Shape(224, 224).pixels(data)
    assert sizes == [(1600, 1200)] * 3


# What is none


def png(width, height, *chunks):
    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(bytes(100))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def tiff(width, height):
    tags = [
        (256, width),
        (257, height),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, height),
        (279, 9),
    ]
    body = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + body + bytes(4)


def webp(form, body):
    chunk = form + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def sides(width, height):
    return (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")


BOMBS = {
    "png": png(50_000, 50_000),
    "gif": b"GIF89a" + struct.pack("<HHBBB", 50_000, 50_000, 0, 0, 0) + b",\0\0\0\0\1\0\1\0\0\2\2L\1\0;",
    "bmp": b"BM" + struct.pack("<IIIIiiHHIIiiII", 99, 0, 54, 40, 50_000, 50_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "tiff": tiff(50_000, 50_000),
    "jpeg": pictures.jpeg(1, 64, 48).replace(
        struct.pack(">HH", 48, 64), struct.pack(">HH", 50_000, 50_000), 1
    ),
    "webp": webp(b"VP8X", bytes(4) + sides(50_000, 50_000)),
}


@pytest.mark.parametrize("kind", BOMBS)
def test_gigantic_images_are_refused_before_they_are_decoded(kind):
    reason = f"50,000 x 50,000 pixels, expected at most {MOST_PIXELS:,} in all"
    assert refused(BOMBS[kind]) == ("too large", reason)


def test_the_largest_webp_of_each_form():
    lossless = webp(b"VP8L", b"\x2f" + (16_382 | 16_382 << 14).to_bytes(4, "little") + bytes(8))
    lossy = webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 16_383, 16_383) + bytes(4))
    assert refused(lossless)[1].startswith("16,383 x 16,383 pixels")
    assert refused(lossy)[1].startswith("16,383 x 16,383 pixels")


def rle(width, height, data):
    size = 54 + 1024
    header = struct.pack(
        "<IIIIiiHHIIiiII", size + len(data), 0, size, 40, width, height, 1, 8, 1, 0, 0, 0, 0, 0
    )
    return b"BM" + header + b"\0\1\2\0" * 256 + data


def test_a_bmp_of_a_kilobyte_that_skips_a_gigabyte_is_refused():
    """One row of five million pixels, and a skip of 120 of them, which Pillow fills."""
    assert refused(rle(5_000_000, 1, bytes([0, 2, 0, 120]))) == (
        "too large",
        f"5,000,000 x 256 pixels, expected at most {MOST_PIXELS:,} in all",
    )
    assert Shape(2, 2).pixels(rle(2, 2, bytes([2, 7, 0, 0, 2, 7, 0, 1])))[0, 0].tolist() == [2, 1, 0]


def test_a_decoder_that_gets_no_memory_is_a_refusal(monkeypatch):
    def none_left(*_):
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", none_left)
    with pytest.raises(Unfit) as caught:
        loaded(opened(pictures.encoded(PHOTO, "BMP")))
    assert caught.value.refusal == ("damaged bmp", "MemoryError")


@pytest.mark.parametrize("name", [b"iCCP", b"zTXt"])
def test_a_png_whose_words_unpack_to_gigabytes(name):
    bomb = b"name\0\0" + zlib.compress(bytes(300 << 20), 9)
    kind, reason = refused(png(8, 8, (name, bomb)))
    assert kind == "damaged png"
    assert "too large" in reason


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello", ("not an image", "expected jpeg, png, webp, gif, bmp or tiff")),
        (b"%PDF-1.7 " + bytes(99), ("not an image", "expected jpeg, png, webp, gif, bmp or tiff")),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", ("not an image", "expected jpeg, png, webp, gif, bmp or tiff")),
    ],
)
def test_what_is_no_image(data, reason):
    assert refused(data) == reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_truncated_ones(kind):
    data = pictures.encoded(PHOTO, kind)
    why, detail = refused(data[: len(data) * 2 // 3])
    assert why == "truncated image" or why.startswith("damaged"), (why, detail)
    if kind in ("JPEG", "PNG"):
        assert why == "truncated image"
    for length in (0, 3, 9, 20, 40):
        assert refused(data[:length])[0] in ("not an image", "truncated image", f"damaged {kind.lower()}")


MUTABLE = [pictures.encoded(PHOTO, kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP")]
MUTABLE.append(pictures.encoded(PHOTO, "JPEG", progressive=True))
MUTABLE.append(pictures.encoded(PHOTO, "TIFF", compression="tiff_lzw"))


@settings(max_examples=200)
@given(st.sampled_from(MUTABLE), st.data())
def test_damage_of_any_kind_is_a_refusal_or_an_image(data, draw):
    """No other exception, which would be the job's end; and the same words each time."""
    broken = bytearray(data)
    for _ in range(draw.draw(st.integers(1, 4))):
        place = draw.draw(st.integers(0, min(len(data), draw.draw(st.sampled_from([60, 400, 10**9]))) - 1))
        broken[place] = draw.draw(st.integers(0, 255))
    found = []
    for _ in range(2):
        try:
            found.append(SMALL.pixels(bytes(broken)).tobytes())
        except Unfit as e:
            found.append(e.refusal)
    assert found[0] == found[1]


# Memory


def test_images_take_no_more_room_than_there_is():
    room, taken, most = Room(100), [0], [0]
    lock = threading.Lock()

    def work(size):
        with room.of(size):
            with lock:
                taken[0] += size
                most[0] = max(most[0], taken[0])
            threading.Event().wait(0.01)
            with lock:
                assert taken[0] <= 100 or taken[0] == size
                taken[0] -= size

    threads = [threading.Thread(target=work, args=(size,)) for size in (60, 60, 40, 500, 30, 30, 30, 100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (taken[0], most[0]) == (0, 500)


def test_decoding_leaves_python_to_others():
    """Where it held Python's lock, nobody else would come to anything before it is done."""
    data = pictures.encoded(Image.fromarray(PHOTO).resize((4000, 3000)), "PNG")
    with ThreadPoolExecutor(1) as thread:
        work, turns = thread.submit(Shape(24, 32).pixels, data), 0
        while not work.done():
            turns += 1
            time.sleep(0.001)
    assert work.result().shape == (24, 32, 3)
    assert turns >= 20


def test_opening_decodes_nothing():
    image = opened(pictures.jpeg(1, 640, 480))
    assert image.size == (640, 480)
    assert image.tile  # what is still to be decoded

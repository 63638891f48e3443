"""Models that take images: what they get, and what is refused before they get anything."""

import importlib.util
from typing import Any

import image_models
import numpy as np
import pictures
import pytest
import tensorflow as tf

from transforms.encoder.config import ModelConfig
from transforms.encoder.hub import HubEncoder
from transforms.encoder.inputs import threads
from transforms.encoder.inputs.pixels import Shape
from transforms.errors import UsageError

pytestmark = pytest.mark.usefixtures("own_caches")
PHOTOS = [pictures.jpeg(number, 40, 30) for number in range(5)]


def load(handle: Any, **config: Any) -> HubEncoder:
    return HubEncoder(ModelConfig(str(handle), **config))


def error(handle: Any, **config: Any) -> str:
    with pytest.raises(UsageError) as caught:
        load(handle, **config)
    assert "\n" not in str(caught.value)
    return str(caught.value).replace(str(handle), "M")


def vectors(encoder: HubEncoder, payloads: Any = PHOTOS) -> np.ndarray:
    prepared, refused = encoder.prepare(payloads)
    assert refused == {}
    return encoder.embed(prepared)


def save_echo(folder: Any, *shape: int | None, dtype: Any = tf.float32) -> str:
    """A model whose vector is what it was given."""

    class Echo(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, *shape], dtype, name="pixels")])
        def serve(self, pixels: Any) -> dict[str, Any]:
            flat = tf.reshape(tf.cast(pixels, tf.float32), [tf.shape(pixels)[0], -1])
            return {"vector": tf.ensure_shape(flat, [None, None])}

    module = Echo()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return str(folder)


@pytest.fixture(scope="module")
def echo(tmp_path_factory):
    return save_echo(tmp_path_factory.mktemp("echo") / "m", 8, 6, 3)


def pixels_of(data: bytes, *shape: Any, **how: Any) -> np.ndarray:
    return Shape(*shape, **how).pixels(data).astype(np.float32)


def test_the_modality_is_found_in_the_signature(echo):
    encoder = load(echo)
    assert encoder.modality.name == "image"
    assert encoder.prepares
    assert encoder.input.described == (
        "pixels: float32 [n, 8, 6, 3]; images 8 x 6, stretch, bilinear, 0 to 1"
    )
    assert encoder.estimate(PHOTOS).tolist() == [1] * 5


def test_ranges_are_keras_own(echo):
    from keras.applications.imagenet_utils import preprocess_input

    given = np.stack([pixels_of(data, 8, 6) for data in PHOTOS])
    expected = {mode: preprocess_input(given.copy(), mode=mode) for mode in ("tf", "caffe", "torch")}
    expected |= {"unit": given / 255, "raw": given}
    for name, pixels in expected.items():
        found = vectors(load(echo, image_range=name))
        np.testing.assert_allclose(found, pixels.reshape(5, -1), rtol=1e-6, atol=1e-5)


def test_resizing_by_option(echo):
    found = vectors(load(echo, image_resize="crop", image_interpolation="bicubic", image_range="raw"))
    pixels = pixels_of(PHOTOS[3], 8, 6, resize="crop", interpolation="bicubic")
    assert np.array_equal(found[3], pixels.ravel())


@pytest.mark.parametrize(
    ("shape", "dtype", "range_"),
    [
        ((8, 6, 3), tf.uint8, "raw"),
        ((8, 6, 3), tf.float16, "unit"),
        ((8, 6, 1), tf.float32, "unit"),
        ((3, 8, 6), tf.float32, "unit"),
    ],
)
def test_other_tensors(tmp_path, shape, dtype, range_):
    encoder = load(save_echo(tmp_path / "m", *shape, dtype=dtype))
    expected = pixels_of(PHOTOS[0], 8, 6, 1 if shape[-1] == 1 else 3) / (1 if range_ == "raw" else 255)
    if shape[0] == 3:
        expected = expected.transpose(2, 0, 1)
    tolerance = 1e-3 if dtype == tf.float16 else 1e-6
    np.testing.assert_allclose(vectors(encoder)[0], expected.ravel(), rtol=tolerance, atol=tolerance)


def test_a_free_size(tmp_path):
    folder = save_echo(tmp_path / "m", None, None, 3)
    assert load(folder).dim == 224 * 224 * 3
    encoder = load(folder, image_size=16)
    assert encoder.dim == 16 * 16 * 3
    assert encoder.modality.cost == 1
    assert "images 16 x 16," in encoder.input.described


def test_a_model_that_decodes_itself(tmp_path):
    class Decoding(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="image_bytes")])
        def serve(self, image_bytes: Any) -> dict[str, Any]:
            def mean(data: Any) -> Any:
                image = tf.io.decode_image(data, channels=3, expand_animations=False)
                return tf.reduce_mean(tf.cast(image, tf.float32), [0, 1])

            return {"vector": tf.map_fn(mean, image_bytes, fn_output_signature=tf.float32)}

    module = Decoding()
    tf.saved_model.save(module, str(tmp_path / "m"), signatures={"serving_default": module.serve})
    encoder = load(tmp_path / "m", modality="image")
    found = vectors(encoder)
    expected = [tf.reduce_mean(tf.cast(tf.io.decode_image(data), tf.float32), [0, 1]) for data in PHOTOS]
    np.testing.assert_allclose(found, np.stack(expected), rtol=1e-5)
    made, refused = encoder.prepare([PHOTOS[0], b"none"])
    assert made[0] == PHOTOS[0]
    assert refused == {1: ("not an image", "expected jpeg, png, webp, gif, bmp or tiff")}
    advice = error(tmp_path / "m")  # a tensor of strings is mostly of texts
    assert advice.startswith("model M: fails on a sample text: Unknown image file format")
    assert advice.endswith("; if it takes other documents, say so with `modality`")
    assert error(tmp_path / "m", modality="image", image_range="tf") == (
        "image_range tf: the model decodes images itself, and makes of them what it takes"
    )


@pytest.mark.parametrize("signature", [False, True])
def test_the_format_of_hubs_feature_vectors(tmp_path, signature):
    inputs = tf.keras.Input([None, None, 3])
    drop = tf.keras.layers.Dropout(0.5)(inputs)  # tells training from use
    tf.keras.utils.set_random_seed(1)
    output = tf.keras.layers.GlobalAveragePooling2D()(tf.keras.layers.Conv2D(4, 3)(drop))
    network = tf.keras.Model(inputs, output)
    encoder = load(image_models.save_hub(network, tmp_path / "m", signature=signature), image_size=32)
    assert encoder.signature == ("default" if signature else "__call__")
    assert encoder.modality.name == "image"
    pixels = np.stack([pixels_of(data, 32, 32) for data in PHOTOS]) / np.float32(255)
    np.testing.assert_allclose(vectors(encoder), network(pixels, training=False), rtol=1e-4, atol=1e-5)


def test_refusals_stand_beside_the_others(echo):
    encoder = load(echo)
    made, refused = encoder.prepare([PHOTOS[0], PHOTOS[1][:300], PHOTOS[2]])
    assert list(refused) == [1]
    assert refused[1][0] == "truncated image"
    assert np.array_equal(made[2], Shape(8, 6).pixels(PHOTOS[2]))


def test_a_mini_batch_is_decoded_by_several_threads(echo, monkeypatch):
    """Each waits for the other: one alone would wait for ever."""
    import threading
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(2)
    monkeypatch.setattr(threads, "_threads", lambda: pool)
    both = threading.Barrier(2)
    encoder = load(echo)
    original = Shape.pixels
    monkeypatch.setattr(Shape, "pixels", lambda *given: both.wait(60) >= 0 and original(*given))
    made, refused = encoder.prepare(PHOTOS[:2])
    pool.shutdown()
    assert refused == {}
    assert np.array_equal(made[1], original(Shape(8, 6), PHOTOS[1]))


# What is refused


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((8, 6, 4), tf.float32), ((8, 6), tf.float32), ((8, 6, 3), tf.int64), ((1, 2, 8, 3), tf.float32)],
)
def test_tensors_that_hold_no_images(tmp_path, shape, dtype):
    folder = save_echo(tmp_path / "m", *shape, dtype=dtype)
    takes = f"pixels: {dtype.name} [n, {', '.join(map(str, shape))}]"
    assert error(folder, modality="image") == (
        f"model M: signature serving_default takes ({takes}), expected one tensor of floats or uint8 [n, "
        "height, width, 3], or strings [n]: choose an image model, another `signature`, or the `modality` "
        "that fits"
    )


def test_options_that_contradict_the_model(tmp_path, echo):
    assert error(echo, image_size=16) == "image_size 16: the model takes 8 pixels; leave it out"
    whole = save_echo(tmp_path / "uint8", 8, 6, 3, dtype=tf.uint8)
    assert error(whole, image_range="unit") == (
        "image_range unit: the model takes uint8, which holds raw pixels; leave it out"
    )
    grey = save_echo(tmp_path / "grey", 8, 6, 1)
    assert error(grey, image_range="caffe") == (
        "image_range caffe: is for three colours, and the model takes grey; expected unit, tf or raw"
    )


def test_without_pillow(echo, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "PIL" else find(name))
    assert error(echo) == "images need PIL: pip install 'embedbeam[image]'"

"""Networks of tf.keras.applications, as Keras and TF Hub save them, against calling them directly."""

import image_models
import numpy as np
import pictures
import pytest
import tensorflow as tf
from keras.applications.imagenet_utils import preprocess_input
from PIL import Image

from transforms.encoder.config import ModelConfig
from transforms.encoder.hub import HubEncoder

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("own_caches")]
PHOTOS = [pictures.jpeg(number) for number in range(8)]
CASES = [
    ("MobileNetV2", 96, "keras", {"alpha": 0.35}),
    ("MobileNetV2", None, "hub", {"alpha": 0.35}),
    ("ResNet50", 224, "keras", {}),
    ("InceptionV3", 299, "keras", {}),
]


def cosines(a, b):
    """Least cosine of what is left without what all images have in common: that tells them apart."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    return ((a * b).sum(axis=1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).min()


@pytest.mark.parametrize(("name", "side", "saved", "options"), CASES)
def test_vectors_are_those_of_the_network_itself(tmp_path, name, side, saved, options):
    network, mode = image_models.application(name, side, **options), image_models.MODES[name]
    save = {"keras": image_models.save_keras, "hub": image_models.save_hub}[saved]
    handle = save(network, tmp_path / "m")
    size = side or 128
    encoder = HubEncoder(ModelConfig(handle, image_range=mode, image_size=None if side else size))
    assert encoder.signature == ("serving_default" if saved == "keras" else "__call__")
    prepared, refused = encoder.prepare(PHOTOS)
    assert refused == {}
    found = encoder.embed(prepared)

    def direct(images):
        pixels = preprocess_input(np.array(images, np.float32), mode=mode)
        return np.asarray(network(pixels, training=False))

    # TensorFlow's own decoder; by default it takes an inverse transform that is faster, and not exact.
    decoded = [tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE").numpy() for data in PHOTOS]
    alike = [Image.fromarray(one).resize((size, size), Image.Resampling.BILINEAR) for one in decoded]
    measured = {
        "load_img": cosines(found, direct([np.asarray(one) for one in alike])),
        "antialias": cosines(found, direct(tf.image.resize(decoded, (size, size), antialias=True))),
        "no antialias": cosines(found, direct(tf.image.resize(decoded, (size, size)))),
    }
    fast = [tf.io.decode_jpeg(data).numpy() for data in PHOTOS]
    measured["fast decoding"] = cosines(found, direct(tf.image.resize(fast, (size, size), antialias=True)))
    bicubic = tf.image.resize(decoded, (size, size), method="bicubic", antialias=True)
    measured["bicubic"] = cosines(found, direct(bicubic))
    print(name, {key: round(float(value), 6) for key, value in measured.items()})
    assert measured["load_img"] >= 0.99999
    assert measured["antialias"] >= 0.9999
    assert measured["no antialias"] < measured["antialias"]
    assert cosines(found, np.roll(found, 1, axis=0)) < 0.9  # or nothing was compared

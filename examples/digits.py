"""Which digit is it? Embeds scikit-learn's handwritten digits, as PNG files, and trains a head.

    python examples/digits.py FOLDER [--images N]

The encoder is a small convolutional network: trained here on the digits 0 to 4 alone, then saved without its
classes as a SavedModel of images. The head learns all ten from its vectors: half are new to the encoder.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.cli import main as embedbeam

SIDE, SEEN, SEED = 16, 5, 7


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--images", type=int, default=1797, help="how many (all)")
    given = parser.parse_args()
    images, digits = read_digits(given.images)
    table, encoder = given.folder / "digits.parquet", given.folder / "encoder"
    write_images(given.folder / "images", table, images, digits)
    save_encoder(encoder, images, digits)
    vectors, head, model = (str(given.folder / name) for name in ("vectors", "head", "model"))
    fields = ["--modality", "image", "--text-field", "image", "--id-field", "id", "--keep-field", "digit"]
    return embedbeam(
        ["embed", "--input", str(table), "--output", vectors, "--model", str(encoder), *fields]
    ) or embedbeam(["train", vectors, "--label", "digit", "--model", "mlp", "--to", head, "--export", model])


def read_digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 [n, 16, 16, 3] and int64 [n]."""
    from sklearn.datasets import load_digits

    found = load_digits()
    gray = (found.images[:count] * (255 / 16)).astype(np.uint8)
    large = gray.repeat(SIDE // 8, axis=1).repeat(SIDE // 8, axis=2)
    return np.repeat(large[..., np.newaxis], 3, axis=3), found.target[:count]


def write_images(folder: Path, table: Path, images: np.ndarray, digits: np.ndarray) -> None:
    """A PNG file each, and a Parquet file with their bytes and their digits."""
    from PIL import Image

    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{i:04d}.png" for i in range(len(images))]
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels).save(path)
    columns = {
        "id": [path.stem for path in paths],
        "image": [path.read_bytes() for path in paths],
        "digit": digits,
    }
    pq.write_table(pa.table(columns), table)


def save_encoder(folder: Path, images: np.ndarray, digits: np.ndarray) -> None:
    """Trains a small network on some of the digits, and saves what comes before its classes."""
    import tensorflow as tf

    tf.keras.utils.set_random_seed(SEED)
    layers = tf.keras.layers
    body = tf.keras.Sequential(
        [
            tf.keras.Input([SIDE, SIDE, 3]),
            layers.Conv2D(16, 3, activation="relu", padding="same"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, activation="relu", padding="same"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
        ]
    )
    whole = tf.keras.Sequential([body, layers.Dense(SEEN)])
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    whole.compile("adam", loss)
    known = digits < SEEN
    whole.fit(images[known] / np.float32(255), digits[known], epochs=8, batch_size=32, verbose=0)

    class Encoder(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = body

        @tf.function(input_signature=[tf.TensorSpec([None, SIDE, SIDE, 3], tf.float32, name="image")])
        def serve(self, image: Any) -> dict[str, Any]:
            return {"vector": self.body(image)}

    encoder = Encoder()
    tf.saved_model.save(encoder, str(folder), signatures={"serving_default": encoder.serve})


if __name__ == "__main__":
    sys.exit(main())

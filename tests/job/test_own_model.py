"""The page for models of one's own: its example is run as it stands."""

import re

import jobs
import numpy as np
import pictures
import pytest

PAGE = (jobs.ROOT / "docs" / "own-model.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_example_as_it_stands(tmp_path):
    (example,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    lines = [line for line in example.splitlines() if line and not line.startswith("#")]
    assert 5 < len(lines) <= 10
    (tmp_path / "photos").mkdir()
    for number in range(4):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(pictures.jpeg(number, 80, 70))
    (tmp_path / "example.py").write_text(example)
    done = jobs.run(jobs.PYTHON, "example.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "['0.jpg', '1.jpg', '2.jpg', '3.jpg'] (4, 8)"

    import tensorflow as tf

    model = tf.saved_model.load(str(tmp_path / "my-model"))
    files = [(tmp_path / "photos" / f"{n}.jpg").read_bytes() for n in range(4)]
    # By default TensorFlow takes an inverse transform that is faster, and not exact.
    images = [tf.io.decode_jpeg(data, dct_method="INTEGER_ACCURATE") for data in files]
    pixels = tf.stack([tf.image.resize(image, (64, 64), antialias=True) for image in images]) / 255
    expected = model.serve(pixels).numpy()
    found = np.array([row["embedding"] for row in jobs.rows(tmp_path / "vectors")])
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() >= 0.99999

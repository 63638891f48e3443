"""Images through the real command: files, Parquet, TFRecord and tar, into rows and dead letters."""

import io
import json
import shutil
import signal
import tarfile

import image_models
import jobs
import numpy as np
import pictures
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

COUNT = 24
TINY = ["--shard-bytes=40000", "--max-dead-letters=50%"]


def photo(number):
    return pictures.jpeg(number, 160, 120)


BAD = {
    "bad0.png": (b"<html>", "not an image: expected jpeg, png, webp, gif, bmp or tiff", "no image, 6 bytes"),
    "bad1.jpg": (
        photo(1)[:2000],
        "truncated image: the jpeg ends before its last pixels",
        "jpeg of 2,000 bytes",
    ),
}


@pytest.fixture(scope="module")
def image_model(tmp_path_factory):
    return image_models.save_small(tmp_path_factory.mktemp("images") / "m")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of photos, one of each other kind, two that are none, and what is left unread."""
    folder = tmp_path_factory.mktemp("photos") / "in"
    (folder / "sub").mkdir(parents=True)
    for number in range(COUNT):
        path = folder / ("sub" if number % 2 else "") / f"{number:03}.jpg"
        path.write_bytes(photo(number))
    for kind in ("png", "webp", "gif", "bmp", "tiff"):
        (folder / f"kind.{kind}").write_bytes(pictures.encoded(pictures.photo(99, 40, 30), kind.upper()))
    for name, (data, _, _) in BAD.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def embedded(tmp_path_factory, photos, image_model):
    """The folder's output, by the console script in a process of its own."""
    output = tmp_path_factory.mktemp("embedded") / "out"
    done = jobs.run(*jobs.EMBED, *command(photos, image_model, output)[1:])
    assert done.returncode == 0, done.stderr
    return output


def command(source, model, output):
    return ["embed", f"--input={source}", f"--model={model}", f"--output={output}", "--quiet", *TINY]


def expected(data, model=None):
    """The small model's vector of an image that Pillow alone decodes."""
    from PIL import Image

    image = Image.open(io.BytesIO(data)).convert("RGB").resize((8, 8), Image.Resampling.BILINEAR)
    weights = np.random.default_rng(3).normal(size=(192, 16)).astype(np.float32)
    return (np.asarray(image, np.float32) / 255).ravel() @ weights


def vectors(output):
    return {row["doc_id"]: np.array(row["embedding"]) for row in jobs.rows(output)}


def check_vectors(found, contents):
    assert found.keys() == contents.keys()
    for name, data in contents.items():
        np.testing.assert_allclose(found[name], expected(data), rtol=1e-4, atol=1e-4)


def test_a_folder(embedded, photos):
    files = {str(p.relative_to(photos)): p.read_bytes() for p in photos.rglob("*.*") if p.name not in BAD}
    assert len(files) == COUNT + 5
    check_vectors(vectors(embedded), files)
    letters = [(one["doc_id"], one["stage"], one["reason"], one["payload"]) for one in jobs.letters(embedded)]
    assert letters == [(name, "embed", *about[1:]) for name, about in BAD.items()]
    assert (embedded / "_SUCCESS").exists()
    job = json.loads((embedded / "_embedbeam" / "plan.jsonl").read_text().splitlines()[0])
    assert (job["modality"], job["payload"]) == ("image", {"cost": 1})


def test_records_with_encoded_bytes(tmp_path, image_model, cli):
    contents = {f"n{number}": photo(number) for number in range(6)}
    plain = pa.table({"name": list(contents), "image": pa.array(contents.values(), pa.binary())})
    pq.write_table(plain, tmp_path / "plain.parquet")
    faces = [{"bytes": data, "path": f"{name}.jpg"} for name, data in contents.items()]
    pq.write_table(pa.table({"name": list(contents), "image": faces}), tmp_path / "hugging.parquet")
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "some.tfrecord")) as file:
        for name, data in contents.items():
            values = {"name": name.encode(), "image": data}
            features = {
                key: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
                for key, value in values.items()
            }
            file.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
    for name in ("plain.parquet", "hugging.parquet", "some.tfrecord"):
        output = tmp_path / "out" / name
        code, _, err = cli(*command(tmp_path / name, image_model, output), "--id-field=name")
        assert (code, err) == (0, ""), name
        check_vectors(vectors(output), contents)


def test_a_tar_in_webdatasets_layout(tmp_path, image_model, cli):
    contents = {f"{number:03}": photo(number) for number in range(6)}
    with tarfile.open(tmp_path / "some.tar", "w") as archive:
        for key, data in contents.items():
            beside = json.dumps({"label": f"label {key}"}).encode()
            for name, content in ((f"{key}.jpg", data), (f"{key}.json", beside)):
                member = tarfile.TarInfo(name)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    output = tmp_path / "out"
    code, _, err = cli(*command(tmp_path / "some.tar", image_model, output), "--keep-field=label")
    assert (code, err) == (0, "")
    rows = jobs.rows(output)
    assert [row["label"] for row in rows] == [f"label {key}" for key in contents]
    check_vectors({row["doc_id"]: np.array(row["embedding"]) for row in rows}, contents)


def test_tfrecord_has_the_same_rows(tmp_path, photos, image_model, embedded, cli):
    from transforms.output.reader import open_output

    output = tmp_path / "out"
    code, _, err = cli(*command(photos, image_model, output), "--output-format=tfrecord")
    assert (code, err) == (0, "")
    found = {}
    for table in open_output(str(output)).rows():
        found |= dict(
            zip(table.column("doc_id").to_pylist(), table.column("embedding").to_pylist(), strict=True)
        )
    assert {name: list(map(float, vector)) for name, vector in found.items()} == {
        name: vector.tolist() for name, vector in vectors(embedded).items()
    }


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.parametrize(
    ("point", "count"), [("create part", 2), ("after rename letters", 1), ("rename receipt", 3)]
)
def test_killed_and_run_again(tmp_path, photos, image_model, embedded, cli, point, count):
    output = tmp_path / "out"
    killed = jobs.run(jobs.PYTHON, jobs.KILL_AT, point, count, *command(photos, image_model, output))
    assert killed.returncode == -signal.SIGKILL, killed.stdout + killed.stderr
    assert set(jobs.files(output).items()) <= set(jobs.files(embedded).items())
    assert cli(*command(photos, image_model, output))[0] == 0
    assert jobs.files(output) == jobs.files(embedded)
    assert cli("verify", output)[0] == 0


def test_dry_run_knows_images_by_their_files(photos, tmp_path, cli):
    code, text, err = cli("embed", f"--input={photos}", f"--output={tmp_path / 'out'}", "--dry-run")
    assert (code, err) == (0, "")
    assert "files      31 (31 image)\n" in text
    assert f"tokens     about {31 * 196:,} (estimated)\n" in text
    assert "dead" not in text


def test_inspect_tells_size_and_range(image_model, cli):
    code, text, err = cli("inspect", image_model, "--image-range=tf", "--image-resize=crop")
    assert (code, err) == (0, "")
    assert "modality    image\n" in text
    assert (
        "signature   serving_default(image: float32 [n, 8, 8, 3]; images 8 x 8, crop, bilinear, -1 to 1)\n"
        in text
    )
    assert "sample      'jpeg of " in text


# What is refused


def refused(cli, *arguments):
    code, out, err = cli(*arguments)
    assert (code, out) == (2, ""), err
    assert err.count("\n") == 1
    return err.removeprefix("embedbeam: error: ").strip()


def test_files_of_another_modality(tmp_path, photos, image_model, model, cli):
    jobs.write_jsonl(tmp_path / "a.jsonl", [{"image": "a.jpg"}])
    text = refused(cli, *command(tmp_path / "a.jsonl", image_model, tmp_path / "out"))
    assert text == (
        f"--input {tmp_path}/a.jsonl: jsonl files hold no bytes, and so no documents of --modality image, "
        "which is the model's or your choice; name other files, or give another --model"
    )
    one = photos / "000.jpg"
    text = refused(cli, *command(one, model, tmp_path / "out"))
    assert text == (
        f"--input {one}: {one}: image files hold no documents of --modality text, which is the model's or "
        "your choice; name other files"
    )
    shutil.copytree(photos, tmp_path / "mixed")
    (tmp_path / "mixed" / "README.txt").write_text("what these are")
    code, out, _ = cli(*command(tmp_path / "mixed", image_model, tmp_path / "out"))
    assert (code, out) == (0, "")
    assert len(jobs.rows(tmp_path / "out")) == COUNT + 5


@pytest.mark.parametrize(
    ("flag", "reason"),
    [
        ("--long-documents=chunks", "--long-documents chunks: an image is embedded as a whole"),
        ("--max-tokens=5", "--max-tokens 5: an image is embedded as a whole"),
        ("--keep-text", "--keep-text needs documents that are text"),
        ("--image-size=9", "--image-size 9: the model takes 8 pixels; leave it out"),
    ],
)
def test_options_that_mean_nothing(tmp_path, photos, image_model, cli, flag, reason):
    found = refused(cli, *command(photos, image_model, tmp_path / "out"), flag)
    assert found.replace(image_model, "M") == reason
    assert not (tmp_path / "out").exists()


def test_in_a_pipeline_of_ones_own(image_model):
    import apache_beam as beam
    from apache_beam.testing.util import assert_that

    from embedbeam import EmbedDocuments

    def same(found):
        (row,) = found
        raw = expected(photo(3)) * 255
        np.testing.assert_allclose(row.vector, raw, rtol=1e-4)

    def dead(found):
        assert sorted((one.doc_id, one.reason, one.payload) for one in found) == [
            ("none", "field 'payload' is str, expected an encoded image (bytes)", "no image, str"),
            ("short", BAD["bad1.jpg"][1], BAD["bad1.jpg"][2]),
        ]

    documents = [("three", photo(3)), ("none", "a text"), ("short", BAD["bad1.jpg"][0])]
    with beam.Pipeline(runner="FnApiRunner") as root:
        result = (
            root
            | beam.Create(documents)
            | EmbedDocuments(image_model, modality="image", payload={"image_range": "raw"})
        )
        assert_that(result.embeddings, same)
        assert_that(result.dead_letters, dead, label="dead")

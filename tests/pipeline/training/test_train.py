"""`train` and `predict`: a head on vectors, what it says of them, and the two of them as one model."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks.synthetic import write_output
from pipeline.training.labels import read_labels
from transforms.errors import UsageError
from transforms.output.reader import open_output


def some(rows, dim=8, kinds=3, seed=0, classes=None):
    """Clouds that a line tells apart, in blocks of two rows a document."""
    random = np.random.default_rng(seed)
    kind = random.integers(kinds, size=rows)
    centres = 3 * np.eye(dim, dtype=np.float32)[:kinds]
    vectors = centres[kind] + random.standard_normal((rows, dim), np.float32)
    names = np.array([f"c{i}" for i in range(kinds)], object)[kind].tolist() if classes is None else classes
    return {"doc_id": [f"d{i // 2}" for i in range(rows)], "vectors": vectors, "kind": names}


def write(path, rows, **head):
    kept = head.pop("kept", [["kind", "string"]])
    write_output(str(path), [[rows]], dim=rows["vectors"].shape[1], kept=kept, **head)
    return path


@pytest.fixture(scope="module")
def output(tmp_path_factory):
    return write(tmp_path_factory.mktemp("train") / "out", some(600))


@pytest.fixture(scope="module")
def head(tmp_path_factory, output):
    from pipeline.training.run import train
    from pipeline.training.train import Recipe

    folder = tmp_path_factory.mktemp("head") / "head"
    recipe = Recipe(epochs=8, batch_size=32, learning_rate=0.01)
    return folder, train(open_output(str(output)), "kind", folder, recipe=recipe)


def test_a_head_learns_and_says_how_well(head):
    folder, record = head
    assert record["accuracy"] > 0.9 > 0.5 > record["majority_accuracy"]
    assert json.loads((folder / "report" / "report.json").read_text()) == json.loads(json.dumps(record))
    assert "precision" in (folder / "report" / "report.txt").read_text()
    for name in ("confusion.png", "curves.png"):
        assert (folder / "report" / name).read_bytes().startswith(b"\x89PNG")
    matrix = np.array(record["confusion"]["rows"])
    assert matrix.sum() == record["rows"]["validation"]
    assert matrix.trace() / matrix.sum() == record["accuracy"]
    for place, one in enumerate(record["classes"]):  # by their definitions
        assert one["recall"] == pytest.approx(matrix[place, place] / matrix[place].sum())
        assert one["precision"] == pytest.approx(matrix[place, place] / matrix[:, place].sum())


def test_curves_are_read_back_from_event_files(head):
    from tensorflow.python.summary.summary_iterator import summary_iterator

    folder, record = head
    found = {}
    for side in ("training", "validation"):
        for path in (folder / "tensorboard" / side).glob("events.*"):
            for event in summary_iterator(str(path)):
                for value in event.summary.value:
                    found.setdefault((side, value.tag), []).append((event.step, value.simple_value))
    steps = [step for step, _ in found["training", "mini_batch/loss"]]
    assert steps == list(range(1, record["mini_batches"] + 1))
    losses = [loss for _, loss in found["validation", "epoch/loss"]]
    assert losses == pytest.approx([one["loss"] for one in record["validation"]])
    assert record["best_epoch"] == 1 + int(np.argmin(losses))


def test_all_rows_of_a_document_are_on_one_side(output):
    labels = read_labels(open_output(str(output)), "kind", share=0.3, seed=1)
    assert (labels.validation[::2] == labels.validation[1::2]).all()
    assert 0.2 < labels.validation.mean() < 0.4
    other = read_labels(open_output(str(output)), "kind", share=0.3, seed=2)
    assert (other.validation != labels.validation).any()


@pytest.mark.parametrize("flags", [["--model=mlp", "--optimizer=sgd", "--balance"], ["--class-weights"]])
def test_the_same_seed_gives_the_same_head(cli, output, tmp_path, flags):
    records = []
    for name in ("one", "two"):
        command = [
            "train",
            output,
            "--label=kind",
            "--epochs=2",
            "--batch-size=16",
            "--learning-rate=0.02",
            "--seed=3",
            *flags,
            "--json",
        ]
        code, out, err = cli(*command, f"--to={tmp_path / name}")
        assert code == 0, err
        records.append(json.loads(out))
    one, two = ({k: v for k, v in r.items() if k not in ("head", "seconds")} for r in records)
    assert one == two
    assert one["accuracy"] > 0.6
    import tensorflow as tf

    weights = [
        tf.train.load_checkpoint(str(tmp_path / name / "variables" / "variables")) for name in ("one", "two")
    ]
    names = [name for name in weights[0].get_variable_to_shape_map() if "VARIABLE" in name]
    assert names
    for name in names:
        np.testing.assert_array_equal(weights[0].get_tensor(name), weights[1].get_tensor(name))


def test_training_stops_when_validation_gets_no_better(tmp_path):
    from pipeline.training.run import train
    from pipeline.training.train import PATIENCE, Recipe

    rows = some(200)
    rows["kind"] = np.random.default_rng(9).choice(["a", "b"], 200).tolist()  # nothing to learn
    output = open_output(str(write(tmp_path / "out", rows)))
    record = train(
        output, "kind", tmp_path / "head", recipe=Recipe(epochs=50, batch_size=16, learning_rate=0.05)
    )
    assert record["epochs"] == record["best_epoch"] + PATIENCE < 50


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_told(tmp_path, monkeypatch, value):
    from pipeline.training import train
    from pipeline.training.run import train as run

    rows = some(200)
    rows["vectors"][[3, 50, 120], 1] = value
    output = open_output(str(write(tmp_path / "out", rows)))
    validation = read_labels(output, "kind", share=0.2, seed=0).validation[[3, 50, 120]].sum()
    recipe = train.Recipe(epochs=2, batch_size=16, balanced=True)
    with pytest.raises(UsageError, match=r"\d of 1\d\d sampled vectors hold NaN or infinity: "):
        run(output, "kind", tmp_path / "head", recipe=recipe)
    assert validation < 3
    ones = np.ones(8, np.float32)
    monkeypatch.setattr(train, "_moments", lambda *_: (0 * ones, ones))  # as if the sample had none
    with pytest.raises(UsageError, match=r"^3 of 200 vectors hold NaN or infinity: "):
        run(output, "kind", tmp_path / "head", recipe=recipe)


def test_predictions_are_what_the_head_says(cli, output, head, tmp_path):
    import tensorflow as tf

    folder, _ = head
    code, out, err = cli("predict", output, "--head", folder, "--to", tmp_path / "p.parquet", "--json")
    assert code == 0, err
    assert json.loads(out)["rows"] == 600
    table = pq.read_table(tmp_path / "p.parquet")
    labels = json.loads(table.schema.metadata[b"embedbeam.labels"])
    assert labels == ["c0", "c1", "c2"]
    rows = some(600)
    loaded = tf.saved_model.load(str(folder)).signatures["serving_default"]
    said = loaded(embedding=tf.constant(rows["vectors"]))
    assert table["doc_id"].to_pylist() == rows["doc_id"]
    assert table["label"].to_pylist() == [one.decode() for one in said["label"].numpy()]
    probabilities = np.array(table["probabilities"].to_pylist())
    np.testing.assert_allclose(probabilities, said["probabilities"].numpy(), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(table["probability"].to_numpy(), probabilities.max(axis=1), rtol=1e-6)
    code, _, err = cli("predict", output, "--head", folder, "--to", tmp_path / "p.parquet")
    assert (code, "exists already" in err) == (2, True)


@pytest.mark.parametrize("flags", [["--to=s3://b/head"], ["--to=head", "--export=gs://b/model"]])
def test_a_head_is_not_written_to_a_store(cli, output, flags):
    code, _, err = cli("train", output, "--label=kind", *flags)
    assert (code, "expected a folder on this machine; copy it to the store" in err) == (2, True)


def test_a_head_of_another_model_is_refused(cli, head, tmp_path):
    other = write(tmp_path / "other", some(20), model="m2", model_digest="1" * 64)
    code, _, err = cli("predict", other, "--head", head[0], "--to", tmp_path / "p.parquet")
    assert code == 2
    assert "vectors of m2 (digest 111111111111), and the head was trained on those of synthetic" in err
    shorter = write(tmp_path / "shorter", some(20, dim=6))
    code, _, err = cli("predict", shorter, "--head", head[0], "--to", tmp_path / "p.parquet")
    assert (code, "vectors of 6 numbers, and the head takes 8" in err) == (2, True)
    bits = write(tmp_path / "bits", some(20), vector_dtype="ubinary")
    code, _, err = cli("predict", bits, "--head", head[0], "--to", tmp_path / "p.parquet")
    assert (
        code,
        "vectors with vector_dtype 'ubinary', and the head was trained on those with 'float32'" in err,
    ) == (
        2,
        True,
    )
    code, _, err = cli("predict", shorter, "--head", tmp_path, "--to", tmp_path / "p.parquet")
    assert (code, "no head here" in err) == (2, True)


@pytest.mark.parametrize(
    ("classes", "kind", "words"),
    [
        (["a"] * 40, "string", "all rows are of one class, 'a'; expected two or more"),
        ([None] * 40, "string", "no row has a value"),
        ([f"x{i}" for i in range(40)], "string", "40 different values in as many rows"),
        ([0.5] * 40, "double", "field 'kind' is double: expected strings, integers or truths"),
    ],
)
def test_fields_that_are_no_classes(cli, tmp_path, classes, kind, words):
    output = write(tmp_path / "out", some(40, classes=classes), kept=[["kind", kind]])
    code, out, err = cli("train", output, "--label=kind", f"--to={tmp_path / 'h'}", "--quiet")
    assert (code, out) == (2, "")
    assert words in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "h").exists()
    assert not list(tmp_path.glob(".h*"))


def test_a_missing_field_and_a_folder_that_is_taken(cli, output, tmp_path):
    code, _, err = cli("train", output, "--label=no", f"--to={tmp_path / 'h'}", "--quiet")
    assert (code, "no column 'no'; there are doc_id" in err, len(err.splitlines())) == (2, True, 1)
    code, _, err = cli("train", output, "--label=kind", f"--to={output}", "--quiet")
    assert (code, "exists already" in err) == (2, True)
    code, _, err = cli("train", output, "--label=kind", f"--to={tmp_path / 'h'}", "--quiet", "--seed=-1")
    assert (code, "seed -1: expected a number from 0" in err) == (2, True)
    for export in (tmp_path / "h", tmp_path / "h" / "model"):
        code, _, err = cli("train", output, "--label=kind", f"--to={tmp_path / 'h'}", f"--export={export}")
        assert (code, "choose a folder apart" in err) == (2, True)


def test_what_cannot_be_exported_is_told_before_training(output, tmp_path, monkeypatch, cli):
    monkeypatch.setattr("pipeline.training.run.train", None)
    code, _, err = cli(
        "train", output, "--label=kind", f"--to={tmp_path / 'h'}", f"--export={tmp_path / 'e'}", "--quiet"
    )
    assert code == 2, err
    assert not list(tmp_path.iterdir())


def test_names_with_a_dollar_are_drawn_as_they_are(tmp_path):
    from pipeline.training.report import draw_confusion

    labels = ["$a_{$", "costs $5 or $6"]
    record = {
        "confusion": {"labels": labels, "rows": [[3, 1], [0, 2]]},
        "field": r"$\\frac$",
        "accuracy": 0.5,
        "rows": {"validation": 6},
    }
    draw_confusion(record, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")


def test_rows_at_a_time_follow_from_the_classes():
    from pipeline.training.train import rows_at_once

    assert [rows_at_once(n) for n in (2, 1024, 10_000, 10**6)] == [8192, 4096, 419, 64]


def test_rows_without_a_label_and_classes_on_one_side_are_told(tmp_path):
    from pipeline.training.run import train
    from pipeline.training.train import Recipe

    rows = some(200)
    rows["kind"][:10] = [None] * 10
    whole = read_labels(open_output(str(write(tmp_path / "a", rows))), "kind", share=0.2, seed=0)
    place = int(np.flatnonzero(whole.validation & (whole.codes >= 0))[0])
    rows["kind"][place] = "lonely"
    output = open_output(str(write(tmp_path / "b", rows)))
    record = train(output, "kind", tmp_path / "head", recipe=Recipe(epochs=1))
    assert record["rows"]["without_label"] == 10
    assert record["notes"] == [
        "10 of 200 rows have no kind and are left out",
        "1 of 4 classes have rows in validation alone, which the head cannot learn: lonely",
    ]


@pytest.mark.parametrize("dtype", ["float32", "ubinary"])
def test_encoder_and_head_become_one_model(cli, save_model, tmp_path, dtype):
    import jobs
    import tensorflow as tf
    import tensorflow_hub as hub

    docs = [{"id": f"d{i}", "text": f"{'short' if i % 2 else 'long'} {i}", "kind": i % 2} for i in range(80)]
    source = jobs.write_jsonl(tmp_path / "docs.jsonl", docs)
    embed = ["embed", "--input", source, "--id-field=id", "--quiet"]
    out, whole = tmp_path / "out", tmp_path / "model"
    model = save_model()
    assert (
        cli(*embed, "--output", out, "--model", model, "--keep-field=kind", f"--vector-dtype={dtype}")[0] == 0
    )
    train = [
        "train",
        out,
        "--label=kind",
        f"--to={tmp_path / 'head'}",
        f"--export={whole}",
        "--epochs=3",
        "--json",
    ]
    code, said, err = cli(*train)
    assert code == 0, err
    assert json.loads(said)["export"] == str(whole)
    loaded = hub.load(str(whole))
    texts = tf.constant([one["text"] for one in docs])
    (name,) = loaded.signatures["serving_default"].structured_input_signature[1]
    found = loaded.signatures["serving_default"](**{name: texts})
    assert cli("predict", out, "--head", tmp_path / "head", "--to", tmp_path / "p.parquet")[0] == 0
    table = pq.read_table(tmp_path / "p.parquet").to_pylist()
    by_id = {row["doc_id"]: row for row in table}
    for one, probabilities, label in zip(
        docs, found["probabilities"].numpy(), found["label"].numpy(), strict=True
    ):
        np.testing.assert_allclose(by_id[one["id"]]["probabilities"], probabilities, atol=1e-5)
        assert by_id[one["id"]]["label"] == int(label)
    code, _, err = cli("predict", out, "--head", whole, "--to", tmp_path / "again.parquet")
    assert (code, "no head here" in err) == (2, True)
    again = tmp_path / "classes"
    assert cli(*embed, "--output", again, "--model", whole, "--model-output=probabilities")[0] == 0
    for row in jobs.rows(again):
        np.testing.assert_allclose(row["embedding"], by_id[row["doc_id"]]["probabilities"], atol=1e-5)


def test_broken_vectors_have_no_label(cli, head, tmp_path):
    rows = some(20)
    rows["vectors"][[3, 17], 2] = np.nan, np.inf
    output = write(tmp_path / "broken", rows)
    code, out, err = cli("predict", output, "--head", head[0], "--to", tmp_path / "p.parquet", "--json")
    assert code == 0, err
    assert (json.loads(out)["without_label"], sum(json.loads(out)["labels"].values())) == (2, 18)
    table = pq.read_table(tmp_path / "p.parquet").to_pylist()
    for name in ("label", "probability"):
        assert [i for i, row in enumerate(table) if row[name] is None] == [3, 17]
    assert [i for i, row in enumerate(table) if np.isnan(row["probabilities"]).all()] == [3, 17]


def test_a_name_below_a_file_is_refused(cli, output, head, tmp_path):
    (tmp_path / "file").write_text("")
    below = tmp_path / "file" / "x"
    for command in (
        ("train", output, "--label=kind", "--to", below),
        ("predict", output, "--head", head[0], "--to", below),
        ("train", output, "--label=kind", "--to", tmp_path / "head", "--export", below),
    ):
        code, _, err = cli(*command)
        assert (code, "file" in err, len(err.splitlines())) == (2, True, 1), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]

"""Corpora, commands and readings of output folders, for the end-to-end tests."""

import ctypes
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow.dataset as ds

CORPUS_OPTIONS = {
    "id_field": "id",
    "keep_field": ["n"],
    "keep_text": True,
    "shard_bytes": 2500,
    "max_dead_letters": "10%",
}
FLAGS = ["--id-field=id", "--keep-field=n", "--keep-text", "--shard-bytes=2500", "--max-dead-letters=10%"]
ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable
KILL_AT = ROOT / "tests" / "kill_at.py"
_PRCTL = ctypes.CDLL(None).prctl if sys.platform == "linux" else None
EMBED = [PYTHON, "-m", "pipeline", "embed"]


def write_jsonl(path, records):
    """Writes records; a str is written as it is, as a line."""
    lines = [r if isinstance(r, str) else json.dumps(r, ensure_ascii=False) for r in records]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def write_corpus(folder):
    for name in ("a", "b", "c"):
        records = [
            {"id": f"{name}{i}", "text": f"text {name} {i} " + "word " * (i % 25), "n": i} for i in range(100)
        ]
        records[7] = {"id": f"{name}7", "text": "a POISON text", "n": 7}
        records[11] = "{broken"
        records[13] = {"id": f"{name}13", "text": " ", "n": 13}
        write_jsonl(folder / f"{name}.jsonl", records)
    return folder


def documents(count, words=3):
    return [{"id": f"d{i}", "text": f"document {i} " + "word " * (i % words)} for i in range(count)]


def rows(output):
    """The rows of a Parquet output, sorted by id (and chunk)."""
    table = ds.dataset(str(output), format="parquet").to_table().to_pylist()
    return sorted(table, key=lambda row: (row["doc_id"], row.get("chunk") or 0))


def letters(output):
    """The dead letters of an output, sorted by id."""
    found = [
        json.loads(line)
        for path in sorted(Path(output, "_dead_letters").glob("*"))
        for line in path.read_text().splitlines()
    ]
    return sorted(found, key=lambda letter: letter["doc_id"])


def files(output):
    """Digests of the part files and dead letters, by name."""
    paths = [*Path(output).glob("part-*"), *Path(output, "_dead_letters").glob("*")]
    return {str(p.relative_to(output)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(paths)}


def temporaries(output):
    return [p.name for p in Path(output, "_embedbeam", "tmp").glob("*")]


def receipts(output):
    paths = sorted(Path(output, "_embedbeam", "receipts").glob("*.json"))
    return [json.loads(path.read_text()) for path in paths]


def manifest(output):
    return json.loads(Path(output, "_embedbeam", "manifest.json").read_text())


def fingerprint(output, text):
    """What stands in the fingerprint column of a job's output for a text."""
    from pipeline.job import fingerprint_key, job_of
    from transforms.output.reader import open_output

    opened = open_output(str(output))
    return hashlib.sha256(fingerprint_key(job_of(opened.plan, opened.folder)) + text.encode()).digest()[:16]


def expected_vector(text):
    """What HashModel gives for a text of one window."""
    import models
    import tensorflow as tf

    hashed = [tf.strings.to_hash_bucket_fast(text + str(i), 1000).numpy() for i in range(models.DIM)]
    vector = np.array(hashed, np.float32) / 1000 - 0.5
    return vector / np.linalg.norm(vector)


def environment():
    """What children get: the project, and nothing that keeps TensorFlow quiet."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("TF_", "GRPC_"))}
    return kept | {"PYTHONPATH": str(ROOT)}


def run(*arguments, **kwargs):
    """Runs a command to its end."""
    command = [str(argument) for argument in arguments]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=300, **kwargs)
    done.stderr = without_steps(done.stderr)
    return done


def without_steps(stderr):
    """Standard error without lines that name a step which took long: on a busy machine any does."""
    return re.sub(r"embedbeam: still [\w, ]+\n", "", stderr)


def start(*arguments, **kwargs):
    """Starts a command, which gets SIGTERM when the tests end before it, however they do."""
    command = [str(argument) for argument in arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | kwargs
    return subprocess.Popen(command, env=environment(), text=True, preexec_fn=end_with_tests, **streams)


def end_with_tests():
    """In a new process: its end when the process is gone that started it."""
    if sys.platform == "linux":
        _PRCTL(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG


def wait_for(condition, process, seconds=240):
    """Polls until the condition holds; the process must live so long."""
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, f"ended early with {process.returncode}: {process.stderr.read()}"
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.01)


def save_slow_model(folder):
    """A model that computes for some hundredths of a second whatever it is given."""
    import tensorflow as tf

    class SlowModel(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string)])
        def serve(self, text):
            vectors = tf.stack([tf.cast(tf.strings.length(text), tf.float32)] * 4, axis=1)
            square = tf.ones([200, 200]) / 200
            for_long = tf.while_loop(lambda i, m: i < 100, lambda i, m: (i + 1, m @ square), (0, square))[1]
            return {"embedding": vectors + tf.minimum(tf.reduce_mean(for_long), 0.0)}

    module = SlowModel()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return str(folder)

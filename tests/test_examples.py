"""The examples run as a user runs them, on fewer documents."""

import json

import jobs
import pytest

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("script", "flags", "least"),
    [("docstrings.py", ["--documents=300"], 0.3), ("digits.py", ["--images=500"], 0.7)],
)
def test_an_example(tmp_path, script, flags, least):
    done = jobs.run(jobs.PYTHON, jobs.ROOT / "examples" / script, tmp_path, *flags)
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "head" / "report" / "report.json").read_text())
    assert record["accuracy"] > max(least, 1.5 * record["majority_accuracy"])
    assert (tmp_path / "model" / "saved_model.pb").is_file()

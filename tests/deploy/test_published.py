"""What a day of the DAGs takes from the days that are published."""

import importlib.util
import json
import shutil

import jobs
import outputs
import pytest
import stores
from apache_beam.options.pipeline_options import PipelineOptions

from pipeline.publish import publish
from transforms.storage.files import use_options

PROGRAM = jobs.ROOT / "deploy" / "airflow" / "published.py"
NOTHING = {"reuse": None, "before": None}


@pytest.fixture(scope="module")
def program():
    spec = importlib.util.spec_from_file_location("published", PROGRAM)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def days(tmp_path, cli):
    """A folder with two published days, the 5th and the 7th."""
    made = outputs.make(tmp_path / "vectors" / "2026-01-05", per_shard=2)
    shutil.copytree(made.path, made.path.with_name("2026-01-07"))
    for name in ("2026-01-05", "2026-01-07"):
        assert cli("publish", made.path.with_name(name), "--to", made.path.with_name("current"))[0] == 0
    return made.path.parent


def asked(program, capfd, folder, day):
    capfd.readouterr()
    code = program.main(f"{folder}/current", f"{folder}/{day}", [])
    found = json.loads(capfd.readouterr().out)
    return code, {what: path and path.removeprefix(f"{folder}/") for what, path in found.items()}


@pytest.mark.parametrize(
    ("day", "code", "reuse", "before"),
    [
        ("2026-01-08", 0, "2026-01-07", "2026-01-07"),
        ("2026-01-07", 0, "2026-01-05", "2026-01-05"),  # run again: never its own output
        ("2026-01-06", 99, "2026-01-05", "2026-01-05"),  # an old day is not published over a new one
        ("2026-01-05", 99, "2026-01-07", None),
        ("2026-01-04", 99, "2026-01-07", None),  # of later days it takes vectors, and tells no changes
    ],
)
def test_a_day_takes_from_the_one_before_it(program, days, capfd, day, code, reuse, before):
    assert asked(program, capfd, days, day) == (code, {"reuse": reuse, "before": before})


def test_days_that_were_deleted_are_passed_over(program, days, capfd):
    shutil.rmtree(days / "2026-01-07")
    one = {"reuse": "2026-01-05", "before": "2026-01-05"}
    assert asked(program, capfd, days, "2026-01-08") == (0, one)
    shutil.rmtree(days / "2026-01-05")
    assert asked(program, capfd, days, "2026-01-08") == (0, NOTHING)


def test_an_output_that_is_no_day_serves_and_is_no_later_day(program, days, capfd, cli):
    shutil.copytree(days / "2026-01-07", days / "by-hand")
    assert cli("publish", days / "by-hand", "--to", days / "current")[0] == 0
    one = {"reuse": "by-hand", "before": "by-hand"}
    assert asked(program, capfd, days, "2026-01-06") == (0, one)


def test_nothing_published_and_a_name_that_is_something_else(program, tmp_path, capfd):
    assert asked(program, capfd, tmp_path, "2026-01-05") == (0, NOTHING)
    (tmp_path / "current").mkdir()
    assert program.main(f"{tmp_path}/current", f"{tmp_path}/2026-01-05", []) == 2
    assert "current: is a folder that `embedbeam publish` did not make" in capfd.readouterr().err


@pytest.mark.stores
@pytest.mark.slow
def test_in_a_store(program, tmp_path, capfd, monkeypatch):
    made = outputs.make(tmp_path / "made", per_shard=2)
    with stores.s3_server() as store:
        for name, value in store.environment().items():
            monkeypatch.setenv(name, value)
        vectors, flags = store.url("vectors"), [*store.flags(), "--id-field=id"]
        try:
            code = program.main(f"{vectors}/current", f"{vectors}/2026-01-05", flags)
            assert (code, json.loads(capfd.readouterr().out)) == (0, NOTHING)
            for day in ("2026-01-05", "2026-01-07"):
                store.put_folder(f"vectors/{day}", made.path)
                publish(f"{vectors}/{day}", f"{vectors}/current", 5)
            found = {
                day: (program.main(f"{vectors}/current", f"{vectors}/{day}", flags), capfd.readouterr().out)
                for day in ("2026-01-06", "2026-01-08")
            }
        finally:
            use_options(PipelineOptions([]))
    for day, code, before in (("2026-01-06", 99, "2026-01-05"), ("2026-01-08", 0, "2026-01-07")):
        one = {"reuse": f"{vectors}/{before}", "before": f"{vectors}/{before}"}
        assert (found[day][0], json.loads(found[day][1])) == (code, one)

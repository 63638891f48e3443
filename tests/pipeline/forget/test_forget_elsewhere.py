"""Documents forgotten by workers elsewhere: the folder is what this process would have made of it."""

import contextlib
import json
import pickle
import shutil
import tempfile
import threading
from pathlib import Path

import apache_beam as beam
import jobs
import outputs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from leftovers import traces
from test_forget import (
    FORMATS,
    Killed,
    bytes_of,
    check_gone,
    ids_of,
    killed_at,
    make_in,
    quiet,
    secret,
)

from pipeline.cluster.cluster import Cluster
from pipeline.forget import steps, work
from pipeline.forget.forget import forget
from pipeline.forget.there import There
from pipeline.forget.work import Errand
from pipeline.run.output import output_lock
from pipeline.run.screen import Screen
from transforms.errors import JobFailed, LedgerError
from transforms.output import layout, ledger
from transforms.output.folder import Folder

ERRANDS = Path(layout.ERRANDS)
build_errand = steps.build_errand


@pytest.fixture(scope="module", params=FORMATS)
def made(request, tmp_path_factory):
    return make_in(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def there():
    """Workers of Beam's runner in this process."""
    screen = Screen(quiet=True)
    yield There(Cluster("DirectRunner"), screen)
    screen.close()


@pytest.fixture
def by_hand(monkeypatch):
    """A list of functions; each gets an errand and its shards, in place of Beam."""
    sent = []
    monkeypatch.setattr(
        steps, "build_errand", lambda root, errand, shards: (sent.pop(0) if sent else all_of)(errand, shards)
    )
    monkeypatch.setattr("pipeline.cluster.submit.run_pipeline", lambda cluster, build, wait: build(None))
    return sent


def all_of(errand, shards):
    for one in shards:
        errand.do(one)


def timeless(folder):
    """Bytes of all files; but of the log not when."""
    found = bytes_of(folder)
    if layout.FORGOTTEN in found:
        log = map(json.loads, found[layout.FORGOTTEN].splitlines())
        found[layout.FORGOTTEN] = [entry | {"time": ""} for entry in log]
    return found


def copied(made, folder):
    shutil.copytree(made.path, folder)
    return folder


@pytest.mark.parametrize("numbers", [[], [0], [1, 20, 41, 60, 61, 62], range(63)], ids=len)
def test_as_the_launcher_does_it(numbers, made, there, tmp_path):
    [made, head] = made
    wanted = [*(ids_of(made)[i] for i in numbers), "nobody"]
    one, other = copied(made, tmp_path / "one"), copied(made, tmp_path / "other")
    for name in ("_map/pca.parquet", "_embedbeam/tmp/part.killed", "_embedbeam/errands/killed/hashes"):
        for folder in (one, other):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("old")
    here = forget(str(one), wanted, quiet)
    assert forget(str(other), wanted, quiet, there) == here | {"output": str(other)}
    assert here["documents"] == len(numbers)
    if numbers:
        check_gone(made, head, other, set(wanted) - {"nobody"})
    assert timeless(other) == timeless(one)
    assert not (other / ERRANDS).exists()
    again = forget(str(other), wanted, quiet, there)
    assert (again["documents"], again["already"]) == (0, len(numbers))
    assert timeless(other) == timeless(one)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_in_any_order_and_more_than_once_and_killed(data, made, there, by_hand):
    """Attempts that are repeated, die in their midst, and are gone on with by workers or here."""
    [made, head] = made
    every = ids_of(made)
    wanted = [every[i] for i in sorted(data.draw(st.sets(st.integers(0, 62), min_size=1)))]
    with tempfile.TemporaryDirectory() as temporary:
        folder = copied(made, Path(temporary) / "out")

        def attempts(errand, shards):
            for one in data.draw(st.permutations([*shards, *shards])):
                errand.do(one)

        for count in data.draw(st.lists(st.integers(1, 40), max_size=3)):
            begun = (folder / layout.FORGET).exists()
            by_hand[:] = [attempts] * 3
            with contextlib.suppress(Killed), killed_at(folder, count):
                forget(
                    str(folder), None if begun else wanted, quiet, data.draw(st.sampled_from([there, None]))
                )
        by_hand[:] = [attempts] * 3
        forget(str(folder), wanted, quiet, there)
        check_gone(made, head, folder, set(wanted))
        assert not (folder / ERRANDS).exists()


def test_no_ids_travel_and_none_are_kept(made, there, by_hand, tmp_path):
    folder = copied(made[0], tmp_path / "out")
    wanted = [f"id-{secret(made[0].shards[2], i)}" for i in (3, "dead 1")]
    words = [one.removeprefix("id-") for one in wanted]
    seen = []

    def watched(errand, shards):
        (folder / layout.TEMPORARY).mkdir(exist_ok=True)
        (folder / layout.TEMPORARY / "part.killed").write_text("of a worker that died")
        for one in shards:
            errand.do(one)
            assert traces(folder / layout.STATE, words) == set()
        pipeline = beam.Pipeline()
        build_errand(pipeline, errand, shards)
        graph = pipeline.to_runner_api().SerializeToString()
        seen.append(graph + pickle.dumps(errand))
        assert b"".join(path.read_bytes() for path in (folder / ERRANDS).rglob("*.json"))

    by_hand[:] = [watched, watched]
    assert forget(str(folder), wanted, quiet, there)["documents"] == 2
    assert len(seen) == 2
    assert not [word for word in words if word.encode() in b"".join(seen)]
    assert by_hand == []
    assert jobs.temporaries(folder) == []
    assert not (folder / ERRANDS).exists()


@pytest.mark.parametrize("second", ["row", "letter"])
@pytest.mark.parametrize(
    ("at", "error"),
    [
        ("before the check", "a late worker: what it was sent for is done"),
        ("after the check", "a late worker: what it was sent for is done"),
        ("after all checks", "No such file"),
    ],
)
def test_a_worker_that_was_thought_dead_changes_nothing(
    at, error, second, made, there, by_hand, tmp_path, monkeypatch
):
    """It has written all, falls asleep, and wakes up when more of its shard has been forgotten."""
    folder, shard = copied(made[0], tmp_path / "out"), made[0].shards[2]
    asleep, awake, failed, threads = threading.Event(), threading.Event(), [], []
    check, committed = Errand.check, ledger.committed

    def sleep(now):
        if now == at and threading.current_thread() in threads:
            asleep.set()
            assert awake.wait(60)

    def checked(errand, opened):
        sleep("before the check")
        check(errand, opened)
        sleep("after the check")

    def looked(*arguments):
        receipt = committed(*arguments)
        if list(folder.glob("_embedbeam/tmp/*-receipts-*")):  # all is written
            sleep("after all checks")
        return receipt

    def zombie(errand):
        try:
            errand.do(shard)
        except Exception as e:
            failed.append(str(e))

    def with_zombie(errand, shards):
        work._gone(errand)  # is checked, too
        threads.append(threading.Thread(target=zombie, args=(errand,)))
        threads[0].start()
        assert asleep.wait(60)
        assert len(list((folder / layout.TEMPORARY).iterdir())) == 3  # dead letters, rows, receipt
        all_of(errand, shards)

    monkeypatch.setattr(Errand, "check", checked)
    monkeypatch.setattr(ledger, "committed", looked)
    by_hand[:] = [all_of, with_zombie]
    first = f"id-{secret(shard, 5)}"
    assert forget(str(folder), [first], quiet, there)["documents"] == 1
    others = [f"id-{secret(shard, 7 if second == 'row' else 'dead 0')}", f"id-{secret(shard, 'dead 1')}"]
    assert forget(str(folder), others, quiet)["documents"] == 2
    before = bytes_of(folder)
    awake.set()
    threads[0].join()
    assert [error in one for one in failed] == [True], failed
    assert bytes_of(folder) == before
    check_gone(*made, folder, {first, *others})


def test_damage_is_told_as_here_and_changes_nothing(there, tmp_path):
    made = outputs.make(tmp_path / "out")
    part = made.path / f"part-{made.shards[0]}.parquet"
    sound = part.read_bytes()
    damaged = {"vectors": sound[:200] + bytes([sound[200] ^ 1]) + sound[201:], "all": b"x" * len(sound)}
    for data in damaged.values():
        part.write_bytes(data)
        before = bytes_of(made.path) | {layout.LOCK: b""}
        errors = []
        for hands in (None, there):
            with pytest.raises(LedgerError) as raised:
                forget(str(made.path), [f"{made.shards[0]}:1"], quiet, hands)
            errors.append(str(raised.value))
        assert errors[0] == errors[1]
        assert bytes_of(made.path) == before
        assert not (made.path / ERRANDS).exists()


def test_a_process_that_loses_leaves_the_other_ones_work(there, tmp_path):
    made = outputs.make(tmp_path / "out")
    (made.path / ERRANDS / "first").mkdir(parents=True)
    (made.path / ERRANDS / "first" / "hashes").write_text("of the first")
    before = bytes_of(made.path)
    with (
        output_lock(Folder(str(made.path))),
        pytest.raises(JobFailed, match="another embedbeam is writing to it"),
    ):
        forget(str(made.path), [f"{made.shards[0]}:1"], quiet, there)
    assert bytes_of(made.path) == before | {layout.LOCK: b""}


def test_a_shard_that_nobody_did(there, by_hand, tmp_path):
    """As after `embedbeam embed --overwrite` meanwhile, from a machine that no lock keeps out."""
    made = outputs.make(tmp_path / "out")
    by_hand.append(lambda errand, shards: all_of(errand, shards[1:]))
    with pytest.raises(LedgerError, match="of 1 shards no worker says that it is done"):
        forget(str(made.path), [f"{made.shards[0]}:1"], quiet, there)
    late = Errand(str(made.path), "0" * 32, "late", takes_out=True)
    with pytest.raises(LedgerError, match="the folder is another job's by now"):
        late.do(made.shards[0])


def test_mistakes(finished, tmp_path, cli):
    shutil.copytree(finished, tmp_path / "out")
    (tmp_path / "ids").write_text("a0\n")
    before = bytes_of(tmp_path / "out")

    def refused(*flags):
        code, out, err = cli("forget", tmp_path / "out", f"--ids={tmp_path / 'ids'}", *flags)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert bytes_of(tmp_path / "out") == before
        return err

    assert "--runner NoRunner: expected one of DirectRunner" in refused("--runner=NoRunner")
    far = ["--runner=FlinkRunner", "--flink_master=far.example:8081"]
    assert "a local path, which workers of FlinkRunner would look for on their own disks" in refused(*far)
    assert cli("forget", tmp_path, "--runner=PrismRunner")[0] == 2


def test_here_it_needs_no_beam(finished, tmp_path):
    shutil.copytree(finished, tmp_path / "out")
    (tmp_path / "ids").write_text("a0\n")
    code = (
        "import sys; from pipeline.cli import main; print(main(sys.argv[1:]), 'apache_beam' in sys.modules)"
    )
    done = jobs.run(jobs.PYTHON, "-c", code, "forget", tmp_path / "out", f"--ids={tmp_path / 'ids'}")
    assert done.stdout.splitlines()[-1] == "0 False", done.stderr

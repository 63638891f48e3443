"""publish and rollback on a disk: the model of a stack, publishers at once, kills at every step, mistakes."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import jobs
import outputs
import pandas as pd
import publishing
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.publish import publish, rollback
from transforms.errors import JobFailed, LedgerError, UsageError
from transforms.output import layout, pointer
from transforms.output.folder import Folder
from transforms.output.reader import open_output


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, outputs.Made]:
    """Small outputs by name, each of a job of its own; tests copy them."""
    folder = tmp_path_factory.mktemp("made")
    return {name: outputs.make(folder / name, per_shard=4, prompt=name) for name in ("v1", "v2", "v3", "v3b")}


@pytest.fixture
def home(made: dict[str, outputs.Made], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with v1, v2 and v3."""
    for name in ("v1", "v2", "v3"):
        shutil.copytree(made[name].path, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def ids(made: outputs.Made) -> list[str]:
    return sorted(row.doc_id for rows in made.rows.values() for row in rows)


def test_published_and_back(home: Path, made: dict[str, outputs.Made], cli: Any) -> None:
    said = {}
    for name in ("v1", "v2", "v2", "v3"):
        code, out, err = cli("publish", name, "--to", "current/", "--json")
        assert (code, err) == (0, "")
        said[name] = json.loads(out)
    assert said["v1"] == {
        "current": "current/", "output": str(home / "v1"), "job": made["v1"].job, "rows": 12,
        "changed": True, "previous": None, "remembered": [],
    }  # fmt: skip
    assert (said["v2"]["changed"], said["v2"]["previous"]) == (False, str(home / "v1"))  # the second time
    assert said["v3"]["previous"] == str(home / "v2")
    assert said["v3"]["remembered"] == [str(home / "v2"), str(home / "v1")]
    assert os.readlink("current") == "v3"
    assert sorted(pd.read_parquet("current")["doc_id"]) == ids(made["v3"])
    code, out, err = cli("rollback", "current")
    assert (code, err, out.splitlines()) == (0, "", [
        f"current is now {home}/v2: 12 rows, job {made['v2'].job}",
        f"before, it was {home}/v3",
        f"`embedbeam rollback current` goes back to: {home}/v1",
    ])  # fmt: skip
    assert open_output("current").plan.job == made["v2"].job
    again = json.loads(cli("rollback", "current", "--json")[1])
    assert (again["job"], again["previous"], again["passed_over"]) == (made["v1"].job, str(home / "v2"), [])
    again = json.loads(cli("publish", "v1", "--to", "current", "--json")[1])
    assert (again["changed"], again["previous"], again["remembered"]) == (False, None, [])
    code, _, err = cli("rollback", "current")
    expected = f"error: current: only {home}/v1 is remembered; there is nothing to go back to\n"
    assert (code, err) == (2, f"embedbeam: {expected}")
    assert sorted(os.listdir()) == [
        ".current.published.json",
        ".current.published.lock",
        "current",
        "v1",
        "v2",
        "v3",
    ]


def test_the_last_n_are_remembered_and_nothing_is_deleted(home: Path) -> None:
    for name in ("v1", "v2", "v3"):
        told = publish(name, "current", 2)
    assert told["remembered"] == [str(home / "v2")]
    rollback("current")
    with pytest.raises(UsageError, match=r"only .*v2 is remembered"):
        rollback("current")
    assert {"v1", "v2", "v3"} < set(os.listdir())


def test_a_folder_that_is_moved_as_a_whole(home: Path, made: dict[str, outputs.Made], tmp_path: Path) -> None:
    """What lies beside the name, or below, is named relative to it; all else as it is."""
    os.mkdir("all")
    for name in ("v1", "v2"):
        os.rename(name, f"all/{name}")
    publish("all/v1", "all/current", 5)
    publish("v3", "all/current", 5)
    publish("all/v2", "all/current", 5)
    os.rename("all", "moved")
    assert open_output("moved/current").plan.job == made["v2"].job
    assert rollback("moved/current")["output"] == os.readlink("moved/current") == str(home / "v3")
    assert rollback("moved/current")["output"] == str(home / "moved/v1")


def test_a_reader_stays_with_what_it_opened(home: Path, made: dict[str, outputs.Made]) -> None:
    publish("v1", "current", 5)
    output = open_output("current")
    blocks = output.rows(["doc_id"], block_rows=3)
    seen = next(blocks).column(0).to_pylist()
    publish("v2", "current", 5)
    assert "v2" in str(open_output("current").job)
    for block in blocks:
        seen += block.column(0).to_pylist()
    assert (sorted(seen), output.manifest.job) == (ids(made["v1"]), made["v1"].job)  # type: ignore[union-attr]


def test_through_other_links_and_other_names(home: Path, made: dict[str, outputs.Made]) -> None:
    """A name stands for a real folder: whatever the links on the way become later."""
    os.symlink("v1", "mine")
    publish("mine", "staging", 5)
    publish("staging", "current", 5)
    assert os.readlink("current") == os.readlink("staging") == "v1"
    publish("v2", "staging", 5)
    os.unlink("mine")
    assert open_output("current").plan.job == made["v1"].job
    os.symlink(home, home / "there")
    assert publish("there/v1", "there/current", 5)["changed"] is False


def test_mistakes(home: Path, made: dict[str, outputs.Made], cli: Any) -> None:
    outputs.make(home / "half", leave=1)
    outputs.make(home / "none", shards=0)
    shutil.copytree("v1", "damaged")
    (part,) = itertools.islice(sorted(Path("damaged").glob("part-*")), 1)
    part.write_bytes(part.read_bytes()[:-1])
    os.mkdir("folder")
    Path("file").touch()
    os.symlink("v1", "link")
    publish("v1", "current", 5)
    made_by = "that `embedbeam publish` did not make"
    for arguments, code, words in (
        (["v9", "--to", "current"], 2, f"{home}/v9: no job here"),
        (["half", "--to", "current"], 2, "half: the job has not finished, 1 of its 3 shards are missing"),
        (["none", "--to", "current"], 2, "none: no rows"),
        (["damaged", "--to", "current"], 1, f"damaged: is damaged: {part.name} has "),
        (["current", "--to", "./current"], 2, "current: is the very name to publish under"),
        (["v1", "--to", "v1"], 2, f"{home}/v1: is a folder {made_by}"),
        (["v1", "--to", "v2"], 2, f"{home}/v2: is a folder {made_by}"),
        (["v1", "--to", "folder"], 2, f"{home}/folder: is a folder {made_by}"),
        (["v1", "--to", "file"], 2, f"{home}/file: is a file {made_by}"),
        (["v1", "--to", "link"], 2, f"{home}/link: is a link to v1 {made_by}"),
        (["v1", "--to", "v1/current"], 2, "v1/current: lies in the output folder v1"),
        (["v1", "--to", ""], 2, "nothing can be published there"),
        (["v1", "--to", "/"], 2, "/: nothing can be published there: expected a name"),
        (
            ["v1", "--to", "ftp://host/x"],
            2,
            "ftp://host/x: nothing can be published there: expected a local path",
        ),
        (["v1", "--to", "current", "--keep", "1"], 2, "'1': expected a number from 2"),
        (["v1"], 2, "required: --to"),
    ):
        before = os.readlink("current")
        found, out, err = cli("publish", *arguments)
        assert (found, out, len(err.splitlines())) == (code, "", 1), (arguments, err)
        assert words in err, (arguments, err)
        assert os.readlink("current") == before
    code, _, err = cli("rollback", "v1")
    assert (code, f"{home}/v1: is a folder {made_by}" in err) == (2, True), err
    code, _, err = cli("rollback", "nothing")
    assert (code, "nothing: nothing was published under this name" in err) == (2, True), err
    assert not os.path.lexists(".nothing.published.lock")


def test_what_was_current_is_gone_or_another(home: Path, made: dict[str, outputs.Made], cli: Any) -> None:
    publish("v1", "current", 5)
    publish("v3", "current", 5)
    publish("v2", "current", 5)
    os.rename("v3", "away")
    shutil.copytree(made["v3b"].path, "v3")
    with pytest.raises(
        UsageError, match=f"v3: was written anew .* {made['v3'].job} then, by {made['v3b'].job}"
    ):
        rollback("current")
    shutil.rmtree("v3")
    os.rename("away", "v3")
    os.unlink("v3/_SUCCESS")
    with pytest.raises(UsageError, match="v3: the job has not finished"):
        rollback("current")
    Path("v3/_SUCCESS").touch()
    assert rollback("current")["output"] == str(home / "v3")
    os.rename("v3", "away")
    for command in ("verify", "status", "search"):
        code, _, err = cli(command, "current", *(["x"] if command == "search" else []))
        assert (code, f"current: the current output is {home}/v3, which is gone" in err) == (2, True), err
    assert publish("v2", "current", 5)["remembered"] == [str(home / "v3"), str(home / "v1")]


def test_back_over_what_was_deleted(home: Path, made: dict[str, outputs.Made], cli: Any) -> None:
    for name in ("v1", "v2", "v3", "v2", "v3"):
        publish(name, "current", 5)
    shutil.rmtree("v2")
    code, out, err = cli("rollback", "current")  # over v2, v3 itself and v2
    assert (code, err, out.splitlines()) == (0, "", [
        f"current is now {home}/v1: 12 rows, job {made['v1'].job}",
        f"before, it was {home}/v3",
        f"passed over, since they are gone: {home}/v2",
        "`embedbeam rollback current` goes back to: nothing yet",
    ])  # fmt: skip
    assert (os.readlink("current"), open_output("current").count) == ("v1", 12)
    publish("v3", "current", 5)
    shutil.rmtree("v3")  # what is current may be gone as well
    told = rollback("current")
    assert (told["output"], told["previous"], told["passed_over"]) == (str(home / "v1"), str(home / "v3"), [])


def test_nothing_is_left_to_go_back_to(home: Path) -> None:
    for name in ("v1", "v2", "v3"):
        publish(name, "current", 5)
    shutil.rmtree("v1")
    shutil.rmtree("v2")
    done = jobs.run(Path(sys.executable).with_name("embedbeam"), "rollback", "current", cwd=home)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f"embedbeam: error: current: what was current before is gone: {home}/v2, {home}/v1; publish one "
        "that is there: `embedbeam publish OUT --to current`\n"
    )
    assert (os.readlink("current"), len(pointer.read("current").history)) == ("v3", 3)


def test_letters_that_are_gone(home: Path) -> None:
    shutil.rmtree("v1/_dead_letters")
    with pytest.raises(
        LedgerError, match=r"v1: is damaged: _dead_letters/part-.* is missing; `embedbeam verify v1`"
    ):
        publish("v1", "current", 5)
    assert not os.path.lexists("current")


def test_the_same_folder_with_another_job(home: Path, made: dict[str, outputs.Made]) -> None:
    """What a folder held before can be gone back to no more."""
    publish("v1", "current", 5)
    publish("v3", "current", 5)
    shutil.rmtree("v3")
    shutil.copytree(made["v3b"].path, "v3")
    told = publish("v3", "current", 5)
    expected = (True, str(home / "v1"), [str(home / "v1")])
    assert (told["changed"], told["previous"], told["remembered"]) == expected


def test_a_record_that_somebody_wrote(home: Path) -> None:
    publish("v1", "current", 5)
    Path(".current.published.json").write_text('{"history": [1]}')
    with pytest.raises(UsageError, match=r"\.current\.published\.json: not what `embedbeam publish` writes"):
        publish("v2", "current", 5)
    assert open_output("current").count == 12  # readers need no record


def test_no_job_writes_through_the_name(home: Path, cli: Any, model: str) -> None:
    """A link that nobody published under is an output folder as any other."""
    jobs.write_jsonl(home / "docs.jsonl", jobs.documents(3))
    publish("v1", "current", 5)
    command = ["embed", "--input=docs.jsonl", f"--model={model}", "--quiet"]
    for more in ([], ["--overwrite"]):
        code, _, err = cli(*command, "--output=current/", *more)
        refused = "--output current: is the name of the current output, which `embedbeam publish` made; "
        assert (code, err) == (2, f"embedbeam: error: {refused}write to a new folder, and publish that\n")
    assert cli("verify", "v1")[0] == 0
    os.mkdir("real")
    os.symlink("real", "mine")
    assert cli(*command, "--output=mine")[0] == 0
    assert cli("verify", "real")[0] == 0


def test_reused_by_its_name(home: Path, cli: Any, model: str) -> None:
    jobs.write_jsonl(home / "docs.jsonl", jobs.documents(20))
    command = ["embed", "--input=docs.jsonl", f"--model={model}", "--quiet", "--id-field=id"]
    assert cli(*command, "--output=day1")[0] == 0
    publish("day1", "current", 5)
    code, _, err = cli(*command, "--output=day2", "--reuse=current")
    assert (code, err) == (0, "")
    assert jobs.manifest("day2")["reused"] == 20
    code, _, err = cli(*command, "--output=day1", "--overwrite", "--reuse=current")
    assert (code, "is the job's own output" in err) == (2, True), err


@pytest.mark.slow
def test_publishers_at_once(home: Path) -> None:
    """Each has read the pointer before any of them swaps it: one wins, and the next round begins there."""
    current, names = str(home / "current"), [str(home / name) for name in ("v1", "v2", "v3")]
    history: list[str] = []
    with publishing.publishers(3, current) as some:
        for turn in range(6):
            wanted = names[turn % 3 :] + names[: turn % 3]
            if history:
                wanted[wanted.index(history[-1])] = ""  # it is current: this one goes back
            if len(history) < 2 and "" in wanted:
                wanted[wanted.index("")] = next(name for name in names if name != history[-1])
            told = publishing.all_at_once(some, wanted)
            (won,) = [i for i, one in enumerate(told) if "error" not in one]
            for i, one in enumerate(told):
                if i != won:
                    assert one["error"].startswith(f"{current}: another publish or rollback was faster")
            history = [*history, wanted[won]] if wanted[won] else history[:-1]
            found = pointer.read(current)
            assert [found.folder(one).path for one in found.history] == history
            assert os.path.realpath(current) == history[-1]


FREE = """
import sys
from pipeline.publish import publish
from transforms.errors import JobFailed
won = 0
for name in sys.argv[2:]:
    try:
        won += publish(name, sys.argv[1], 1000)["changed"]
    except JobFailed:
        pass
print(won)
"""


@pytest.mark.slow
def test_no_history_is_lost_while_others_read(home: Path, made: dict[str, outputs.Made]) -> None:
    """Publishers that wait for nobody: each success is in the history, and readers see whole outputs."""
    publish("v3", "current", 1000)
    running = [
        jobs.start(sys.executable, "-c", FREE, "current", *names, cwd=home)
        for names in (["v1", "v2"] * 40, ["v2", "v3"] * 40)
    ]
    truth = {made[name].job: ids(made[name]) for name in ("v1", "v2", "v3")}
    seen = set()
    while any(process.poll() is None for process in running):
        output = open_output("current")
        assert sorted(doc for block, _ in output.vectors() for doc in block) == truth[output.plan.job]
        seen.add(output.plan.job)
    won = [int(process.communicate()[0]) for process in running]
    history = pointer.read("current").history
    assert len(history) == 1 + sum(won)
    assert min(won) > 0
    assert len(seen) > 1
    assert all(one.output != two.output for one, two in itertools.pairwise(history))


@pytest.mark.slow
@pytest.mark.kill
@pytest.mark.parametrize(
    "point", ["rename record", "after rename record", "rename link", "after rename link"]
)
def test_killed_at_a_step(home: Path, point: str) -> None:
    """The old one is current, or the new one; the same command again does what is left."""
    publish("v1", "current", 2)
    publish("v2", "current", 2)

    def killed(*command: str) -> None:
        done = jobs.run(jobs.PYTHON, jobs.KILL_AT, point, 1, *command, cwd=home)
        assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr

    killed("publish", str(home / "v3"), "--to", str(home / "current"), "--keep=2")
    assert os.readlink("current") == ("v3" if point == "after rename link" else "v2")
    assert open_output("current").complete
    told = publish("v3", "current", 3)
    assert (told["output"], os.readlink("current")) == (str(home / "v3"), "v3")
    assert told["remembered"] == [str(home / "v2"), str(home / "v1")]
    killed("rollback", str(home / "current"))
    assert os.readlink("current") == ("v3" if point == "rename link" else "v2")
    history = [one.output for one in pointer.read("current").history]
    assert history == (["v1", "v2", "v3"] if point == "rename link" else ["v1", "v2"])
    publish("v1", "current", 5)
    assert [one.output for one in pointer.read("current").history] == [*history, "v1"]
    assert [name for name in os.listdir() if name.endswith("tmp")] == []


def test_one_that_is_at_it_keeps_the_other_out(home: Path) -> None:
    publish("v1", "current", 5)
    hold = (
        "import fcntl, sys; f = open(sys.argv[1]); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"
    )
    command = [sys.executable, "-c", hold, ".current.published.lock"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(JobFailed, match="current: another publish or rollback was faster, or is at it"):
            publish("v2", "current", 5)
        process.communicate("\n")
    assert publish("v2", "current", 5)["changed"]


class Crash(Exception):
    pass


STEP = st.one_of(
    st.tuples(
        st.just("publish"), st.integers(0, 2), st.integers(2, 4), st.sampled_from([None, None, 0, 1, 2])
    ),
    st.tuples(st.just("rollback"), st.sampled_from([None, None, 0, 1])),
    st.tuples(st.just("write anew"), st.integers(0, 2)),
    st.tuples(st.just("take away"), st.integers(0, 2)),
)


@settings(max_examples=60)
@given(steps=st.lists(STEP, max_size=15))
def test_random_steps_are_those_of_a_stack(steps: list[Any], tmp_path_factory: Any) -> None:
    """A slot is a folder that holds one of two jobs, or none; a crash is one before the n-th rename."""
    home = tmp_path_factory.mktemp("slots")
    kept = tmp_path_factory.getbasetemp() / "variants"
    if not kept.exists():
        for slot, variant in itertools.product(range(3), "ab"):
            outputs.make(kept / f"{slot}{variant}", shards=1, per_shard=2, prompt=f"{slot}{variant}")
    holds: list[str | None] = ["a", "a", "a"]
    for slot in range(3):
        shutil.copytree(kept / f"{slot}a", home / str(slot))
    stack: list[tuple[int, str]] = []
    current = str(home / "current")

    def crashing(at: int | None) -> Any:
        count, original = itertools.count(), os.replace

        def replace(*paths: str) -> None:
            if next(count) == at:
                raise Crash
            original(*paths)

        return mock.patch("os.replace", replace)

    for step, *how in steps:
        if step == "publish":
            slot, keep, crash = how
            new = (slot, str(holds[slot]))
            try:
                with crashing(crash):
                    told = publish(str(home / str(slot)), current, keep)
            except UsageError:
                assert holds[slot] is None
                continue
            except Crash:
                if crash == 2:  # all is done, but more is remembered than shall be
                    stack = [*stack, new]
                continue
            assert told["changed"] == (stack[-1:] != [new])
            if told["changed"]:
                stack = [*(stack[:-1] if stack and stack[-1][0] == slot else stack), new][-keep:]
            assert told["remembered"] == [str(home / str(one)) for one, _ in reversed(stack[:-1])]
        elif step == "rollback":
            there = [i for i in range(len(stack) - 1) if holds[stack[i][0]] and stack[i][0] != stack[-1][0]]
            back = stack[: there[-1] + 1] if there else []
            try:
                with crashing(how[0]):
                    rollback(current)
            except UsageError:
                assert not back or holds[back[-1][0]] != back[-1][1]
            except Crash:
                stack = back if how[0] == 1 else stack
            else:
                assert holds[back[-1][0]] == back[-1][1]
                stack = back
        else:
            (slot,) = how
            shutil.rmtree(home / str(slot), ignore_errors=True)
            holds[slot] = {"a": "b", "b": "a", None: "a"}[holds[slot]] if step == "write anew" else None
            if holds[slot]:
                shutil.copytree(kept / f"{slot}{holds[slot]}", home / str(slot))
        found = pointer.read(current).history
        assert [(int(one.output), one.job) for one in found] == [
            (slot, open_output(str(kept / f"{slot}{variant}")).plan.job) for slot, variant in stack
        ]
        if stack and holds[stack[-1][0]]:
            assert open_output(current).job["prompt"] == f"{stack[-1][0]}{holds[stack[-1][0]]}"
        elif stack:
            with pytest.raises(UsageError, match="which is gone"):
                open_output(current)
        else:
            assert not os.path.lexists(current)
    shutil.rmtree(home)


def test_the_name_in_a_store_and_the_output_here(home: Path) -> None:
    with pytest.raises(UsageError, match="expected a local path, or a URL that begins with s3, gs or az"):
        publish("v1", "hdfs://host/current", 5)
    assert Folder("v1").read(layout.PLAN) is not None

"""The plan file: one identity for one job, and a plan that is not whole is refused."""

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transforms.elements import Shard, Slice
from transforms.errors import UsageError
from transforms.output import layout, plan_file
from transforms.output.folder import Folder

HEAD = {"model": "a", "input": ["x\u2028y", "/\udcff"], "limit": None, "dim": 3, "kept": [["n", "int64"]]}
SHARDS = [Shard(f"{i:016x}", (Slice(f"/in/{i}\u2028", f"{i}", "jsonl", i, None, 7, 1.5),)) for i in range(5)]
DATA = plan_file.to_bytes(HEAD, SHARDS)


def test_round_trip() -> None:
    plan = plan_file.from_bytes(DATA, "plan")
    assert plan.head == HEAD | {"shards": 5}
    assert list(plan.shards) == SHARDS
    assert plan.job == plan_file.job_in(DATA) == plan_file.job_in(DATA[:64])
    assert len(plan.job) == 32


def test_an_identical_job_has_an_identical_identity_and_no_other_has() -> None:
    changed = [
        plan_file.to_bytes(HEAD | {"model": "b"}, SHARDS),
        plan_file.to_bytes(HEAD, SHARDS[:-1]),
        plan_file.to_bytes(HEAD, SHARDS[::-1]),
        plan_file.to_bytes(
            HEAD, [dataclasses.replace(SHARDS[0], slices=(Slice("/in/0", "0", "jsonl"),)), *SHARDS[1:]]
        ),
    ]
    assert plan_file.to_bytes(dict(reversed(HEAD.items())), SHARDS) != DATA
    assert plan_file.job_in(plan_file.to_bytes(dict(reversed(HEAD.items())), SHARDS)) == plan_file.job_in(
        DATA
    )
    assert len({plan_file.job_in(data) for data in (DATA, *changed)}) == 5


@pytest.mark.parametrize("lost", [1, 2, 5])
def test_a_plan_that_lost_lines_is_refused(lost: int) -> None:
    lines = DATA.split(b"\n")[:-1]
    short = b"\n".join([*lines[:-lost], b""])
    with pytest.raises(UsageError, match=rf"^here: has {5 - lost} shards, its first line says 5: ") as e:
        plan_file.from_bytes(short, "here")
    assert "\n" not in str(e.value)


def test_a_plan_without_its_last_newline_is_refused() -> None:
    with pytest.raises(UsageError, match="has 4 shards, its first line says 5"):
        plan_file.from_bytes(DATA[:-10], "here")


@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_an_altered_plan_is_refused(at: int, flip: int) -> None:
    data = bytearray(DATA)
    data[at] ^= flip
    with pytest.raises(UsageError, match=r"^here: ") as e:
        plan_file.from_bytes(bytes(data), "here")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("data", [b"", b"{}\n", b"[]\n", b"null\n", b"\xff\n", b'{"job": "x"}\n', b"7\n"])
def test_what_is_no_plan_is_refused(data: bytes) -> None:
    with pytest.raises(UsageError, match=r"^here: not a plan of this version of embedbeam"):
        plan_file.from_bytes(data, "here")
    assert plan_file.job_in(data) is None


def test_whose_a_folder_is(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    assert (plan_file.read(folder), plan_file.job_of(folder)) == (None, None)
    assert folder.create_new(layout.PLAN, DATA)
    assert not folder.create_new(layout.PLAN, plan_file.to_bytes({"model": "b"}, SHARDS))
    assert plan_file.job_of(folder) == plan_file.job_in(DATA)

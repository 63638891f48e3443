"""Known documents found in a shuffle: those of the indexes, and committed before their shard goes on."""

from pathlib import Path

import apache_beam as beam
import numpy as np
import outputs
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from fakes import bundle
from hypothesis import given
from hypothesis import strategies as st

from transforms.blocks import DocumentBlock, Known
from transforms.elements import Shard, Slice
from transforms.formats.base import ReadOptions
from transforms.output import layout, plan_file
from transforms.output.folder import Folder
from transforms.steps.join import InFiles, JoinKnown, _first_of_each, _join, bucketed, buckets_for
from transforms.steps.reuse import Earlier, ReuseConfig, _FindFn, in_indexes
from transforms.steps.shards import ReadConfig, read_shard

KEY = b"key"


def shards_of(folder, texts, per_shard):
    """Files of texts, a shard each."""
    for number in range(0, len(texts), per_shard):
        path = folder / f"{number:04}.txt"
        path.write_text("".join(f"{text}\n" for text in texts[number : number + per_shard]))
        size = path.stat().st_size
        piece = Slice(str(path), path.name, "lines", 0, size, size, path.stat().st_mtime, None, size)
        yield Shard(f"{number + 1:016x}", (piece,))


def config_of(output):
    job = (output and plan_file.job_of(Folder(str(output)))) or ""
    return ReadConfig(
        ReadOptions(("text",), "text", None, ()), output=str(output), job=job, fingerprint_key=KEY
    )


def fingerprints_of(texts, folder):
    [shard] = shards_of(folder, texts, len(texts))
    blocks = read_shard(shard, config_of(""))
    return [f for b in blocks if isinstance(b, DocumentBlock) for f in b.columns.column(5).to_pylist()]


@pytest.fixture
def two_outputs(tmp_path, monkeypatch):
    """Of 60 texts the first output has the first 40 in two shards, the other the last 30."""
    texts = [f"text {i}" for i in range(60)]
    (tmp_path / "prints").mkdir()
    prints = fingerprints_of(texts, tmp_path / "prints")
    made = []
    for name, mine in (("one", prints[:40]), ("two", prints[30:])):
        given: dict[str, bytes] = {}

        def in_turn(row, given=given, mine=mine):
            return given.setdefault(row.doc_id, mine[min(len(given), len(mine) - 1)])

        monkeypatch.setattr(outputs.rows.Row, "fingerprint", property(in_turn))
        made.append(outputs.make(tmp_path / name, shards=2, per_shard=len(mine) // 2))
    return made, texts


def new_output(tmp_path, shards):
    folder = Folder(str(tmp_path / "new"))
    folder.create_new(layout.PLAN, plan_file.to_bytes(outputs.HEAD, shards))
    return folder


def join(shards, config, reuse):
    """Runs the stage; gives the shards that come out of it."""
    out = Path(config.output, "out")
    out.mkdir(exist_ok=True)
    with beam.Pipeline(runner=FnApiRunner()) as root:
        joined = root | beam.Create(shards, reshuffle=False) | JoinKnown(config, reuse)
        joined | beam.Map(lambda shard: (out / shard.shard_id).write_text(shard.to_line()))
    return [Shard.from_line(file.read_text()) for file in sorted(out.iterdir())]


def test_what_is_found_is_what_the_indexes_have(tmp_path, two_outputs):
    made, texts = two_outputs
    part = sorted(made[0].path.glob("part-*"))[0]
    part.write_bytes(part.read_bytes()[:-1] + b"?")  # serves nobody
    (tmp_path / "in").mkdir()
    mixed = [texts[i * 7 % 60] if i % 5 else f"new {i}" for i in range(45)]
    shards = list(shards_of(tmp_path / "in", mixed, 10))
    reuse = ReuseConfig(tuple(Earlier(str(one.path), one.job) for one in made), joined=True, buckets=16)
    config = config_of(new_output(tmp_path, shards).path)
    assert join(shards, config, reuse) == shards
    by_file, by_index = _FindFn(reuse, InFiles(config.output, reuse)), _FindFn(reuse, in_indexes)
    by_file.setup(), by_index.setup()
    known = 0
    for shard in shards:
        blocks = [b for b in read_shard(shard, config) if isinstance(b, DocumentBlock)]
        for one, other in zip(bundle(by_file, blocks), bundle(by_index, blocks), strict=True):
            assert type(one) is type(other)
            if isinstance(one, Known):
                known += len(one.rows)
                for name in ("source", "shards", "firsts", "rows", "missed"):
                    assert getattr(one, name).tolist() == getattr(other, name).tolist()
    assert known == sum(text.startswith("text") and _is_sound(made, part, text, texts) for text in mixed)


def _is_sound(made, part, text, texts):
    """Whether an output has a text in a part that was not damaged."""
    place = texts.index(text)
    lost = made[0].shards.index(part.name[5:21])
    return place >= 30 or place // 20 != lost


def test_a_stage_that_is_run_again_finds_what_is_committed(tmp_path, two_outputs):
    made, texts = two_outputs
    (tmp_path / "in").mkdir()
    shards = list(shards_of(tmp_path / "in", texts[:30], 10))
    reuse = ReuseConfig(tuple(Earlier(str(one.path), one.job) for one in made), joined=True, buckets=16)
    folder = new_output(tmp_path, shards)
    join(shards[:2], config_of(folder.path), reuse)
    known = f"{layout.KNOWN}/{reuse.name}"
    before = {name: folder.read(f"{known}/{name}") for name in folder.names(known)}
    assert len(before) == 2
    for file in (tmp_path / "in").glob("*"):
        if file.name != "0020.txt":
            file.unlink()  # they are not read again
    assert join(shards, config_of(folder.path), reuse) == shards
    assert before.items() < {name: folder.read(f"{known}/{name}") for name in folder.names(known)}.items()


def test_a_shard_of_a_bad_file_goes_on_and_fails_where_it_is_read(tmp_path, two_outputs):
    made, texts = two_outputs
    (tmp_path / "in").mkdir()
    shards = list(shards_of(tmp_path / "in", texts[:20], 10))
    (tmp_path / "in" / "0000.txt").unlink()
    reuse = ReuseConfig((Earlier(str(made[0].path), made[0].job),), joined=True, buckets=16)
    assert join(shards, config_of(new_output(tmp_path, shards).path), reuse) == shards


columns = st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 3)), max_size=40).map(
    lambda pairs: np.array(pairs, np.uint64).reshape(-1, 2).T
)


@given(columns, st.sampled_from([16, 64, 1 << 14]))
def test_buckets_lose_nothing(pairs, buckets):
    found = list(bucketed(pairs[0], buckets))
    assert len({bucket for bucket, _ in found}) == len(found)
    assert sorted(place for _, places in found for place in places.tolist()) == list(range(pairs.shape[1]))
    for bucket, places in found:
        assert {int(one) * buckets >> 64 for one in pairs[0, places]} == {bucket}


@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 2), st.lists(st.integers(0, 9), max_size=6))),
    st.randoms(),
)
def test_which_of_the_same_wins_does_not_depend_on_the_runner(parts, random):
    """The first output, and in it the shard of the least id."""
    expected, values = {}, []
    for source, shard, prints in parts:
        data = np.array([[p, p, shard * 100 + i] for i, p in enumerate(prints)], np.uint64).reshape(-1, 3).T
        values.append((source, f"{shard:016x}", _first_of_each(data)[:3].tobytes()))
        for i, p in enumerate(prints):
            expected[p] = min(expected.get(p, (9,)), (source, shard, prints.index(p) + shard * 100 + 0 * i))
    asked = np.array([range(10), range(10)], np.uint64)
    values.append((-1, "n", asked.tobytes()))
    random.shuffle(values)
    found = dict(_join((0, values)))
    got = np.frombuffer(found["n"][1], np.uint64).reshape(5, -1).T.tolist() if found else []
    distinct = {(source, shard) for source, shard, _ in parts}
    if len(distinct) == len(parts):  # a part is there once
        assert {p: (source, shard, span) for p, _, shard, span, source in got} == expected


def test_buckets_hold_about_a_million():
    assert [buckets_for(n) for n in (0, 10**6, 10**9, 10**12)] == [16, 16, 1024, 16384]

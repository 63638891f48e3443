"""`embedbeam.batches`: every row once, the same ones for the same seed, from any mini-batch on."""

import itertools

import numpy as np
import outputs
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import embedbeam
from benchmarks.synthetic import write_output
from pipeline.training import balance, order, sources
from pipeline.training.epochs import MiniBatches
from transforms.errors import UsageError

PARTS = (7, 20, 1, 13, 20, 9, 14, 6)


@pytest.fixture(scope="module", params=["parquet", "tfrecord"])
def output(request, tmp_path_factory):
    """90 rows in 8 parts: `number` counts them, the vector says it again; `kind` is rare, seldom or often."""
    path = tmp_path_factory.mktemp("batches") / "out"
    ends = list(itertools.accumulate(PARTS, initial=0))
    write_output(
        str(path),
        [[rows(low, high)] for low, high in itertools.pairwise(ends)],
        dim=3,
        kept=[["number", "int64"], ["kind", "string"]],
        output_format=request.param,
    )
    return str(path)


def rows(low, high):
    numbers = np.arange(low, high)
    kinds = ["rare" if n in (50, 51) else "seldom" if n % 9 == 0 else "often" for n in numbers.tolist()]
    vectors = np.stack([numbers, -numbers, numbers / 2], axis=1).astype(np.float32)
    return {"doc_id": [f"d{n}" for n in numbers], "vectors": vectors, "number": numbers, "kind": kinds}


def numbers(mini_batches):
    """Of each mini-batch its rows' numbers; each row's vector must be its own."""
    found = []
    for batch in mini_batches:
        own = np.asarray(batch["number"])
        vectors = np.asarray(batch["embedding"])
        assert vectors.dtype == np.float32
        np.testing.assert_array_equal(vectors, np.stack([own, -own, own / 2], axis=1))
        found.append(own.tolist())
    return found


def of(source, size=8, **how):
    return embedbeam.batches(source, batch_size=size, columns=["number"], framework="numpy", **how)


def generator():
    for n in range(90):
        yield {"embedding": np.array([n, -n, n / 2], np.float32), "number": n}


def arrays():
    n = np.arange(90)
    return {"embedding": np.stack([n, -n, n / 2], axis=1), "number": n}


def test_in_order_each_row_comes_once_and_the_last_mini_batch_has_what_is_left(output):
    assert numbers(of(output)) == [list(range(i, min(i + 8, 90))) for i in range(0, 90, 8)]
    assert numbers(of(output, drop_remainder=True)) == [list(range(i, i + 8)) for i in range(0, 88, 8)]


@pytest.mark.parametrize("source", [arrays(), generator], ids=["arrays", "generator"])
def test_arrays_and_generators_take_the_same_call(source):
    assert numbers(of(source)) == [list(range(i, min(i + 8, 90))) for i in range(0, 90, 8)]
    shuffled = of(source, shuffle=True, seed=3)
    first, second = numbers(shuffled), numbers(shuffled)
    assert first != second
    assert sorted(itertools.chain(*first)) == sorted(itertools.chain(*second)) == list(range(90))


def test_an_array_alone_is_vectors():
    vectors = np.arange(12, dtype=np.float32).reshape(6, 2)
    found = list(embedbeam.batches(vectors, batch_size=4, framework="numpy"))
    assert [one["embedding"].tolist() for one in found] == [vectors[:4].tolist(), vectors[4:].tolist()]


def test_shuffled_epochs_differ_and_are_the_same_for_the_same_seed(output, monkeypatch):
    monkeypatch.setattr("pipeline.training.epochs.BLOCK_ROWS", 3)
    one, other = of(output, shuffle=16, seed=5), of(output, shuffle=16, seed=5)
    epochs = [numbers(one) for _ in range(3)]
    assert [numbers(other) for _ in range(3)] == epochs
    assert len({str(epoch) for epoch in epochs}) == 3
    assert all(sorted(itertools.chain(*epoch)) == list(range(90)) for epoch in epochs)
    assert [len(batch) for batch in epochs[0]] == [8] * 11 + [2]
    assert numbers(of(output, shuffle=16, seed=6)) != epochs[0]


def test_a_window_has_rows_of_several_parts(output, monkeypatch):
    monkeypatch.setattr("pipeline.training.epochs.BLOCK_ROWS", 2)
    ends = np.cumsum(PARTS)
    first = numbers(of(output, shuffle=8, seed=1))[0]
    assert len({int(np.searchsorted(ends, n, side="right")) for n in first}) == 4


@settings(max_examples=40)
@given(
    start=st.integers(0, 14),
    epoch=st.integers(0, 2),
    size=st.integers(1, 20),
    shuffle=st.sampled_from([0, 1, 10, 1000]),
    drop=st.booleans(),
    balanced=st.booleans(),
)
def test_from_any_mini_batch_on_an_epoch_is_what_it_was(output, start, epoch, size, shuffle, drop, balanced):
    how = {"shuffle": shuffle, "seed": 4, "drop_remainder": drop, "balance": "kind" if balanced else None}
    whole = of(output, size, **how)
    epochs = [numbers(whole) for _ in range(4)]
    start = min(start, len(epochs[0]))
    resumed = of(output, size, start=(epoch, np.int64(start)), **how)
    assert numbers(resumed) == epochs[epoch][start:]
    assert numbers(resumed) == epochs[epoch + 1]


def test_parts_that_lie_before_are_not_opened(output, monkeypatch):
    opened = []
    part = sources.Output.part

    def watched(self, name, *args, **kwargs):
        opened.append(name)
        return part(self, name, *args, **kwargs)

    made = of(output, 10, start=6)
    monkeypatch.setattr(sources.Output, "part", watched)
    assert numbers(made) == [list(range(60, 70)), list(range(70, 80)), list(range(80, 90))]
    names = [receipt.part for receipt in embedbeam.open_output(output).receipts]
    assert set(opened) == set(names[4:])


@settings(max_examples=60)
@given(
    parts=st.lists(st.integers(0, 12), min_size=1, max_size=20),
    count=st.integers(1, 8),
)
def test_workers_have_each_row_once_between_them(parts, count):
    pieces = [order.share(parts, index, count) for index in range(count)]
    found = [(p.part, row) for one in pieces for p in one for row in range(p.low, p.high)]
    assert sorted(found) == [(part, row) for part, rows in enumerate(parts) for row in range(rows)]
    if len(parts) >= order.PARTS_PER_SHARE * count:
        assert all(p.low == 0 and p.high == parts[p.part] for one in pieces for p in one)


@pytest.mark.parametrize("source", ["output", "arrays", "generator"])
@pytest.mark.parametrize("count", [1, 2, 5, 100])
def test_sharded_reading_gives_each_row_once(output, source, count):
    rows = {"output": output, "arrays": arrays(), "generator": generator}[source]
    found = [numbers(of(rows, shuffle=20, shard=(index, count))) for index in range(count)]
    assert sorted(itertools.chain(*itertools.chain(*found))) == list(range(90))


def test_each_mini_batch_has_as_many_rows_of_each_class(output):
    data = embedbeam.batches(
        output, batch_size=10, columns=["number"], shuffle=20, balance="kind", framework="numpy"
    )
    seen = set()
    for _ in range(2):
        for batch in data:
            counts = [int((batch["kind"] == kind).sum()) for kind in ("often", "rare", "seldom")]
            assert max(counts) - min(counts) <= 1
            assert sum(counts) == len(batch["kind"])
            for number, kind in zip(batch["number"].tolist(), batch["kind"].tolist(), strict=True):
                assert kind == rows(number, number + 1)["kind"][0]
            seen |= set(batch["number"].tolist())
    assert {50, 51} <= seen
    assert {n for n in seen if n % 9 == 0} == set(range(0, 90, 9))  # no row of a rare class is left out


@given(
    kinds=st.lists(st.sampled_from([None, "a", "b", "c"]), min_size=1, max_size=40).filter(any),
    size=st.integers(1, 9),
)
def test_balanced_arrays(kinds, size):
    known = {kind for kind in kinds if kind}
    made = MiniBatches(sources.ArraySource({"kind": kinds}), batch_size=size, balance="kind")
    for batch in made:
        counts = [int((batch["kind"] == kind).sum()) for kind in known]
        assert max(counts) - min(counts) <= 1
        assert sum(counts) == len(batch["kind"])  # a null is no class


@pytest.mark.parametrize(
    "kind", [pa.dictionary(pa.int8(), pa.string()), pa.string_view(), pa.binary_view(), pa.large_string()]
)
def test_classes_of_arrow_types_that_are_stored_otherwise(kind):
    labels = pa.chunked_array([pa.array(["a", "b", None, "a"] * 3, pa.string()).cast(kind)])
    for values in (labels, labels.combine_chunks()):
        data = {"embedding": np.zeros((12, 2)), "kind": values}
        found = list(embedbeam.batches(data, batch_size=4, balance="kind", framework="numpy"))
        names = [b"a", b"b"] if kind == pa.binary_view() else ["a", "b"]
        assert [sorted(batch["kind"].tolist()) for batch in found] == [sorted(2 * names)] * 3
    codes = pa.array([3, 4, 3]).dictionary_encode()
    [batch] = embedbeam.batches({"embedding": np.zeros((3, 2)), "n": codes}, framework="numpy")
    assert batch["n"].tolist() == [3, 4, 3]


def test_codes_of_values_that_are_no_class():
    assert balance.codes_of(np.array([3, 1, 9]), np.array([1, 3])).tolist() == [1, 0, -1]


@pytest.mark.parametrize(
    "labels",
    [
        [pa.array(["b", None, "a"]), pa.array([None], pa.string()), pa.array(["c", "b"])],
        [np.array([2, np.nan, 1]), np.array([np.nan]), np.array([3.0, 2])],
    ],
)
def test_labels_become_small_codes_block_by_block(labels):
    classes, codes = balance.read_codes(iter(labels), "kind")
    assert len(classes) == 3
    assert (codes.dtype, codes.tolist()) == (np.int32, [1, -1, 0, -1, 2, 1])


def test_lists_of_like_length_share_a_mini_batch_and_are_padded():
    lists = [list(range(1, n % 7 + 2)) for n in range(70)]
    data = {"ids": lists, "number": np.arange(70)}
    found = list(embedbeam.batches(data, batch_size=10, shuffle=True, bucket="ids", framework="numpy"))
    for batch in found:
        long = batch["ids_length"]
        assert long.dtype == np.int32
        assert long.min() == long.max() == batch["ids"].shape[1]  # ten of each length: nothing is padded
        for ids, number in zip(batch["ids"].tolist(), batch["number"].tolist(), strict=True):
            assert ids == lists[number]
    assert sorted(n for batch in found for n in batch["number"].tolist()) == list(range(70))
    padded = next(iter(embedbeam.batches(data, batch_size=3, framework="numpy")))
    assert padded["ids"].tolist() == [[1, 0, 0], [1, 2, 0], [1, 2, 3]]


def test_a_dataset_of_tensorflow(output):
    data = embedbeam.batches(output, batch_size=8, columns=["number", "kind"], shuffle=True, seed=1)
    assert int(data.cardinality()) == 12
    spec = data.element_spec
    assert {name: (one.dtype.name, one.shape.as_list()) for name, one in spec.items()} == {
        "embedding": ("float32", [None, 3]),
        "number": ("int64", [None]),
        "kind": ("string", [None]),
    }
    plain = embedbeam.batches(
        output, batch_size=8, columns=["number"], shuffle=True, seed=1, framework="numpy"
    )
    for _ in range(2):  # reshuffled each epoch, alike in both
        assert numbers(list(data.as_numpy_iterator())) == numbers(plain)


def test_a_dataset_that_is_left_early_ends_its_threads(output):
    import threading

    before = threading.active_count()
    for _ in of(output, 1, shuffle=4):
        break
    assert threading.active_count() <= before


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"columns": ["no"]}, "no column 'no'; there are doc_id, embedding"),
        ({"balance": "no"}, "no column 'no'"),
        ({"batch_size": 0}, "batch_size 0: expected at least 1"),
        ({"shard": (2, 2)}, r"shard=\(2, 2\): expected \(index, count\)"),
        ({"framework": "jax"}, "framework 'jax': expected one of tf, torch, numpy"),
        ({"shuffle": -1}, "shuffle -1: expected True, False or a number of rows"),
        ({"bucket": "number"}, "bucket 'number': expected a column of lists"),
        (
            {"bucket": "kind", "balance": "kind"},
            "balance and bucket: rows of like length can be of one class",
        ),
        ({"balance": "embedding"}, "balance 'embedding': expected a column of single values"),
        ({"seed": -1}, "seed -1: expected a number from 0"),
        ({"start": -1}, "start -1: expected a number from 0"),
        ({"start": (0, 0.5)}, r"start \(0, 0.5\): expected a number from 0"),
        ({"batch_size": "256"}, "batch_size '256': expected a whole number from 1"),
        ({"batch_size": None}, "batch_size None: expected a whole number from 1"),
        ({"batch_size": 2.5}, "batch_size 2.5: expected a whole number from 1"),
        ({"shuffle": "yes"}, "shuffle 'yes': expected True, False or a number of rows"),
        ({"shuffle": None}, "shuffle None: expected True, False or a number of rows"),
        ({"shuffle": 2.5}, "shuffle 2.5: expected True, False or a number of rows"),
        ({"seed": "1"}, "seed '1': expected a whole number from 0"),
        ({"seed": None}, "seed None: expected a whole number from 0"),
        ({"seed": 1.5}, "seed 1.5: expected a whole number from 0"),
        *(
            ({"shard": shard}, r"shard .*: expected \(index, count\) with 0 <= index < count")
            for shard in (1, None, (0,), ("0", 2), (0.5, 2))
        ),
        ({"columns": 5}, "columns 5: expected a list of names"),
        ({"columns": "number"}, "columns 'number': expected a list of names"),
        ({"columns": [5]}, "columns .5.: expected a list of names"),
        ({"drop_remainder": "no"}, "drop_remainder 'no': expected True or False"),
        ({"start": 2}, "start 2: an epoch has 1 mini-batches"),
        ({"framework": "torch"}, r"need torch: pip install 'embedbeam\[torch\]'"),
    ],
)
def test_mistakes_are_told_in_a_line(output, how, words):
    with pytest.raises(UsageError, match=words):
        embedbeam.batches(output, **how)


def test_sources_that_are_none(tmp_path):
    for source, words in (
        (str(tmp_path), "no job here"),
        (generator(), "the function, not what it returned"),
        ({"a": [1], "b": [1, 2]}, "arrays of as many rows each"),
        ({"embedding": np.zeros((0, 3))}, "no rows"),
        (np.array(5), "column 'embedding': .*a single value is no array of rows"),
        (lambda: None, "the function returned NoneType: expected an iterator of rows, dicts of values"),
        (lambda: iter([1, 2]), "rows of a generator are dicts of columns' values, got 1"),
    ):
        with pytest.raises(UsageError, match=words):
            embedbeam.batches(source)


def test_a_job_that_has_not_finished(tmp_path):
    made = outputs.make(tmp_path / "out", leave=1)
    with pytest.raises(
        UsageError, match="has not finished; run it again, or give partial=True for the 40 rows"
    ):
        embedbeam.batches(made.path)
    found = embedbeam.batches(made.path, partial=True, framework="numpy")
    assert sum(len(batch["embedding"]) for batch in found) == 40


def test_a_column_of_integers_with_nulls(tmp_path):
    made = outputs.make(tmp_path / "out", kept=[["n", "int64"]], values={"n": 1})
    with pytest.raises(UsageError, match="column 'n': 10 of 20 rows have none, and int64 has no value"):
        list(embedbeam.batches(made.path, columns=["n"], framework="numpy"))


def labelled(kinds):
    n = np.arange(len(kinds))
    return {"embedding": np.stack([n, -n, n / 2], axis=1), "number": n, "kind": kinds}


@pytest.mark.parametrize("kind", ["arrays", "generator"])
def test_each_shard_has_the_classes_of_all(kind):
    data = labelled(["a"] * 30 + ["b"] * 20 + ["c"] * 30)

    def rows_of():
        for n in range(80):
            yield {name: values[n] for name, values in data.items()}

    for index in range(2):
        made = embedbeam.batches(
            data if kind == "arrays" else rows_of,
            batch_size=6,
            balance="kind",
            shard=(index, 2),
            framework="numpy",
        )
        found = list(made)
        assert sum(len(batch["kind"]) for batch in found) == 40
        for batch in found:
            counts = [int((batch["kind"] == kind).sum()) for kind in "abc"]
            assert max(counts) - min(counts) <= 1
            assert [data["kind"][n] for n in batch["number"].tolist()] == batch["kind"].tolist()


def test_a_shard_without_rows_gives_none():
    few = labelled(list("aabbcc"))
    sizes = [
        sum(
            len(batch["kind"])
            for batch in embedbeam.batches(few, balance="kind", shard=(i, 10), framework="numpy")
        )
        for i in range(10)
    ]
    assert sum(sizes) == 6
    assert 0 in sizes


@given(counts=st.lists(st.integers(0, 5), min_size=1, max_size=5), first=st.integers(0, 30))
def test_whose_turn_it_is_is_what_a_data_loader_does(counts, first):
    """Round after round each worker gives one, and is passed over when it has no more."""
    taken = [worker for n in range(5) for worker, own in enumerate(counts) if own > n]
    turn, done = order.done_of(counts, first)
    assert done == [taken[:first].count(worker) for worker in range(len(counts))]
    shifted = [(turn + i) % len(counts) for i in range(len(counts))]
    left = [worker for n in range(6) for worker in shifted if counts[worker] - done[worker] > n]
    assert left == taken[first:]


@pytest.mark.parametrize("rows_of", [33, 50])
@pytest.mark.parametrize("first", [0, 1, 3, 6, 8])
def test_workers_that_go_on_repeat_nothing(rows_of, first):
    def left(start):
        made = MiniBatches(
            sources.ArraySource({"number": np.arange(rows_of)}), batch_size=4, start=(0, start)
        )
        shares = [[batch["number"].tolist() for batch in made.share_of(i, 3, 0)] for i in range(3)]
        return [share[n] for n in range(max(map(len, shares))) for share in shares if n < len(share)]

    assert left(first) == left(0)[first:]


def test_workers_cannot_go_on_with_a_generator():
    made = of(generator, start=3)
    with pytest.raises(UsageError, match="start 3: how many rows a generator has is not known"):
        made.share_of(0, 2, 0)
    assert numbers(made.share_of(0, 1, 0))[0] == list(range(24, 32))
    assert len(numbers(made.share_of(0, 2, 1))[0]) == 8


def test_labels_are_read_once_for_all_workers(output, monkeypatch):
    made = MiniBatches(
        sources.OutputSource(embedbeam.open_output(output), ["embedding", "number", "kind"]),
        batch_size=9,
        balance="kind",
    )
    prepared = made.prepare()
    plain = numbers(made)
    monkeypatch.setattr(MiniBatches, "prepare", None)
    assert numbers(made.share_of(0, 1, 0, prepared)) == plain
    shares = [numbers(made.share_of(i, 2, 0, prepared)) for i in range(2)]
    assert sum(len(batch) for share in shares for batch in share) == 90


def test_keras_gets_the_rest_of_an_epoch_and_then_the_others(output):
    import tensorflow as tf

    seen = []

    class Seen(tf.keras.Model):
        def train_step(self, data):
            tf.py_function(lambda n: seen.extend(n.numpy().tolist()), [data["number"]], [])
            return {"loss": tf.constant(0.0)}

    model = Seen()
    model.compile()
    how = {"batch_size": 8, "columns": ["number"], "shuffle": True, "seed": 1}
    model.fit(embedbeam.batches(output, start=(0, 5), **how), epochs=1, verbose=0)
    model.fit(embedbeam.batches(output, start=(1, 0), **how), epochs=2, verbose=0)
    whole = of(output, shuffle=True, seed=1)
    epochs = [list(itertools.chain(*numbers(whole))) for _ in range(3)]
    assert seen == epochs[0][40:] + epochs[1] + epochs[2]


def test_values_in_memory_are_what_they_are_in_an_output():
    def found(column):
        return next(iter(embedbeam.batches({"y": column}, framework="numpy")))["y"]

    np.testing.assert_array_equal(found([0.5, None]), [0.5, np.nan])
    assert found(["a", None]).tolist() == ["a", ""]
    assert found([b"a\0\0", b"b"]).tolist() == [b"a\0\0", b"b"]
    assert found([np.float32(1), np.float32(2)]).dtype == np.float32
    assert found([np.ones(2), np.zeros(2)]).shape == (2, 2)
    fixed = pa.FixedSizeListArray.from_arrays(pa.array([1, 2, 3, 4], pa.uint8()), 2)
    assert found(fixed).tolist() == [[1, 2], [3, 4]]
    for column, words in (
        ([1, None, 2], "column 'y': 1 of 3 rows have none, and int64 has no value"),
        ([1, "a"], "column 'y': expected values of one kind and shape"),
        ([np.ones(2), np.ones(3)], "column 'y': expected values of one kind and shape"),
    ):
        with pytest.raises(UsageError, match=words):
            found(column)
        with pytest.raises(UsageError, match=words):
            next(iter(embedbeam.batches(lambda c=column: ({"y": one} for one in c), framework="numpy")))


def test_the_scale_of_int8_vectors_is_no_column_unless_it_is_wanted(tmp_path):
    write_output(str(tmp_path / "out"), [[rows(0, 9)]], dim=3, vector_dtype="int8")
    for names in ([], ["scale"]):
        [batch] = embedbeam.batches(str(tmp_path / "out"), columns=names, framework="numpy")
        assert list(batch) == ["embedding", *names]
        np.testing.assert_allclose(batch["embedding"], rows(0, 9)["vectors"], atol=0.05)


def of_rows(values, framework="numpy", **how):
    """Mini-batches of a generator of rows that have one value each; blocks have four."""
    return embedbeam.batches(lambda: ({"y": one} for one in values), batch_size=4, framework=framework, **how)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(sources, "BLOCK_ROWS", 4)
    monkeypatch.setattr(sources, "_KINDS_ROWS", 12)


@pytest.mark.parametrize(
    ("first", "then", "dtype"),
    [
        ([0.5] * 4, [1, 2], np.float64),
        ([0.5] * 4, [None, 2], np.float64),
        ([np.float32(1)] * 4, [0.5, 1], np.float32),
        ([np.ones(2, np.float32)] * 4, [np.zeros(2), [1, 2]], np.float32),
        ([1] * 4, [2.0, 3], np.int64),
        ([None] * 4, [1.5, 2], np.float64),
        ([None] * 8, [b"a", b"b"], object),
        ([None] * 4, ["a", None], object),
        ([None] * 16, ["a", None], object),
        (["a"] * 4, [None, None], object),
        ([[]] * 4, [[1], [2, 3]], np.int64),
        ([None] * 4 + [[]] * 4, [[1], []], np.int64),
        ([[1.5]] * 4, [[], [2, 3]], np.float64),
        ([[]] * 16, [["a"], []], object),
    ],
)
def test_a_generators_first_rows_tell_the_type_of_all(small_blocks, first, then, dtype):
    made = of_rows([*first, *then])
    for found in (list(made), list(made), list(of_rows([*first, *then], start=1))):
        assert {batch["y"].dtype for batch in found} == {np.dtype(dtype)}
    told = [value for batch in of_rows([*first, *then], "tf") for value in batch["y"].numpy().tolist()]
    assert len(told) == len(first) + len(then)


@pytest.mark.parametrize(
    ("first", "then", "words"),
    [
        ([1] * 4, [2, 1.5], "column 'y': expected int64 as in the first rows, got 1.5"),
        ([1] * 4, ["a"], "column 'y': expected int64 as in the first rows, got 'a'"),
        ([1] * 4, [True], "expected int64 as in the first rows, got True"),
        ([0.5] * 4, [2**53 + 1], "expected double as in the first rows, got 9007199254740993"),
        (["1"] * 4, [1], "expected string as in the first rows, got 1"),
        ([[1]] * 4, [[1.5]], "expected list<.*int64> as in the first rows, got .1.5"),
        ([[1]] * 4, [["1"]], "expected list<.*int64> as in the first rows, got "),
        ([np.ones(2)] * 4, [np.ones(3)], "expected float64 .2. as in the first rows, got array"),
        ([np.ones(2, int)] * 4, [np.full(2, 0.5)], "expected int64 .2. as in the first rows, got array"),
        ([1] * 4, [None], "column 'y': 1 of 1 rows have none, and int64 has no value"),
        ([None] * 16, [1], "no value that tells its type, so that it was taken for string, got 1"),
        ([1] * 4, [2**70], "expected int64 as in the first rows, got 1180591620717411303424"),
    ],
)
def test_a_generators_later_rows_of_another_type(small_blocks, first, then, words):
    made = of_rows([*first, *then])
    with pytest.raises(UsageError, match=words):
        list(made)

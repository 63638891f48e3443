"""Documents that are said more than once, through the real command: embedded once, or the first kept."""

import random

import jobs
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import remote

from transforms.output.reader import open_output

TEXTS = [f"text {i % 37} " + "word " * (i % 37 % 9) for i in range(120)]
FLAGS = ["--id-field=id", "--shard-bytes=1500", "--max-dead-letters=100%", "--quiet"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Texts of which most are said three times, in other files, among dead letters."""
    folder = tmp_path_factory.mktemp("said-twice") / "in"
    order = list(range(120))
    random.Random(5).shuffle(order)
    for number in range(3):
        some = [{"id": f"d{i}", "text": TEXTS[i]} for i in order[number::3]]
        jobs.write_jsonl(folder / f"{number}.jsonl", [*some, {"id": f"bad{number}", "text": None}])
    return folder


def rows(path):
    return pa.Table.from_batches(open_output(str(path)).rows()).to_pylist()


def left_out(path):
    found = [pq.read_table(file).to_pylist() for file in sorted((path / "_duplicates").glob("part-*"))]
    return {row["doc_id"]: row["of"] for part in found for row in part}


def expected(path):
    """Ids in the order of an output, and of each the first id that says the same."""
    first, of = {}, {}
    for row in rows(path):
        of[row["doc_id"]] = first.setdefault(row["fingerprint"], row["doc_id"])
    return of


@pytest.fixture(scope="module")
def each(model, corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("each") / "out"
    done = jobs.run(*jobs.EMBED, "--input", corpus, "--output", output, "--model", model, *FLAGS)
    assert done.returncode == 0, done.stderr
    return output


def command(model, corpus, output, *more):
    return ["embed", f"--input={corpus}", f"--output={output}", f"--model={model}", *FLAGS, *more]


def check_once(output, each):
    """All rows, and of each text one vector."""
    got, wanted = rows(output), rows(each)
    assert [row | {"embedding": None} for row in got] == [row | {"embedding": None} for row in wanted]
    vectors = {}
    for row in got:
        assert vectors.setdefault(row["fingerprint"], row["embedding"]) == row["embedding"]
    both = (np.array([row["embedding"] for row in some], np.float32) for some in (got, wanted))
    np.testing.assert_allclose(*both, atol=1e-6)
    made = jobs.manifest(output)
    assert (made["embedded"], made["copied"], made["left_out"]) == (37, 120 - 37, 0)
    assert made["dead_letters"] == jobs.manifest(each)["dead_letters"]
    assert sorted(path.name for path in (output / "_embedbeam").iterdir()) == sorted(
        path.name for path in (each / "_embedbeam").iterdir()
    )


def check_first(output, each):
    """The first of each text, and of each other one whose it is."""
    of = expected(each)
    assert left_out(output) == {one: its for one, its in of.items() if one != its}
    got = {row["doc_id"]: row for row in rows(output)}
    assert got.keys() == set(of.values())
    made = jobs.manifest(output)
    assert (made["embedded"], made["left_out"], made["documents"]) == (37, 83, 123)


def test_embedded_once(model, corpus, each, tmp_path, cli):
    output = tmp_path / "out"
    assert cli(*command(model, corpus, output, "--duplicates=embed-once")) == (0, "", "")
    check_once(output, each)
    assert cli("verify", output)[0] == 0
    # A day later what was embedded is not embedded again, the shared ones neither.
    jobs.write_jsonl(tmp_path / "in" / "0.jsonl", [{"id": f"n{i}", "text": TEXTS[i % 50]} for i in range(90)])
    jobs.write_jsonl(tmp_path / "in" / "1.jsonl", [{"id": f"m{i}", "text": f"new {i % 3}"} for i in range(9)])
    again = command(model, tmp_path / "in", tmp_path / "new", "--duplicates=embed-once", f"--reuse={output}")
    assert cli(*again) == (0, "", "")
    made = jobs.manifest(tmp_path / "new")
    assert (made["embedded"], made["reused"], made["copied"]) == (3, 90, 6)


def test_the_first_is_kept(model, corpus, each, tmp_path):
    output = tmp_path / "out"
    full = [*jobs.EMBED[:-1], *command(model, corpus, output, "--duplicates=keep-first")]
    full.remove("--quiet")
    done = jobs.run(*full)
    assert done.returncode == 0, done.stderr
    said = f"left out, since another says the same: 83 documents, listed in {output}/_duplicates/"
    assert said in done.stdout + done.stderr
    check_first(output, each)
    done = jobs.run(*jobs.EMBED[:-1], "verify", output)
    assert done.returncode == 0, done.stdout + done.stderr
    part = sorted((output / "_duplicates").iterdir())[0]
    part.write_bytes(part.read_bytes()[:-1] + b"?")
    done = jobs.run(*jobs.EMBED[:-1], "verify", output)
    assert (done.returncode, f"_duplicates/{part.name}" in done.stdout + done.stderr) == (1, True)


def test_copies_of_a_dead_letter_are_counted(model, tmp_path):
    docs = [("a", "POISON"), ("b", "POISON"), ("c", "fine"), ("d", "fine"), ("e", "POISON")]
    jobs.write_jsonl(tmp_path / "in.jsonl", [{"id": one, "text": text} for one, text in docs])
    output = tmp_path / "out"
    full = command(model, tmp_path / "in.jsonl", output, "--duplicates=keep-first")
    full.remove("--quiet")
    done = jobs.run(*jobs.EMBED[:-1], *full)
    assert done.returncode == 0, done.stderr
    assert left_out(output) == {"b": "a", "e": "a", "d": "c"}
    made = jobs.manifest(output)
    assert (made["left_out"], made["left_out_of_dead"], sum(made["dead_letters"].values())) == (3, 2, 1)
    said = done.stdout + done.stderr
    assert "of these 2 are copies of dead letters: no row says what they say" in said
    (tmp_path / "ids").write_text("b\n")
    assert jobs.run(*jobs.EMBED[:-1], "forget", output, "--ids", tmp_path / "ids").returncode == 0
    made = jobs.manifest(output)
    assert (made["left_out"], made["left_out_of_dead"], made["forgotten"]) == (2, 1, 1)


@pytest.mark.parametrize("policy", ["embed-once", "keep-first"])
def test_chunks(policy, model, corpus, tmp_path, cli):
    flags = ["--long-documents=chunks", "--max-tokens=4", "--chunk-overlap=1", "--keep-text"]
    assert cli(*command(model, corpus, tmp_path / "each", *flags)) == (0, "", "")
    assert cli(*command(model, corpus, tmp_path / "out", *flags, f"--duplicates={policy}")) == (0, "", "")
    got, wanted = rows(tmp_path / "out"), rows(tmp_path / "each")
    if policy == "keep-first":
        kept = set(expected(tmp_path / "each").values())
        wanted = [row for row in wanted if row["doc_id"] in kept]
    assert [row | {"embedding": None} for row in got] == [row | {"embedding": None} for row in wanted]
    both = (np.array([row["embedding"] for row in some], np.float32) for some in (got, wanted))
    np.testing.assert_allclose(*both, atol=1e-6)


def words(number):
    return [f"w{random.Random(number * 100 + i).randrange(10**6)}" for i in range(60)]


def check_near(output, texts, policy):
    got = {row["doc_id"]: row for row in rows(output)}
    if policy == "keep-first":
        assert left_out(output) == {f"e{i}": f"d{i}" for i in range(6)}
        assert got.keys() == {f"d{i}" for i in range(12)}
        return
    assert got.keys() == texts.keys()
    for i in range(6):  # a fingerprint tells what the vector is of
        assert got[f"e{i}"]["embedding"] == got[f"d{i}"]["embedding"]
        assert got[f"e{i}"]["fingerprint"] == got[f"d{i}"]["fingerprint"]
    made = jobs.manifest(output)
    assert (made["copied"], made["embedded"]) == (6, 12)


def write_near(folder):
    """Twelve texts, and six that differ from one of these in one word of sixty, in other files."""
    texts = {f"d{i}": " ".join(words(i)) for i in range(12)}
    texts |= {f"e{i}": " ".join([*words(i)[:-1], "other"]) for i in range(6)}
    for name in "de":
        some = [{"id": i, "text": text} for i, text in texts.items() if i.startswith(name)]
        jobs.write_jsonl(folder / f"{name}.jsonl", some)
    return texts


@pytest.mark.parametrize("policy", ["embed-once", "keep-first"])
def test_near_ones(policy, model, tmp_path, cli):
    texts = write_near(tmp_path / "in")
    near = ["--near-duplicates=0.8", f"--duplicates={policy}"]
    assert cli(*command(model, tmp_path / "in", tmp_path / "out", *near)) == (0, "", "")
    check_near(tmp_path / "out", texts, policy)


def test_a_near_copy_whose_first_is_gone_keeps_its_own_fingerprint(model, tmp_path, cli):
    """Killed when the duplicates are known; then the first ones' file goes bad: the others are embedded."""
    write_near(tmp_path / "in")
    near = ["--near-duplicates=0.8", "--duplicates=embed-once", "--skip-bad-files"]
    full = command(model, tmp_path / "in", tmp_path / "out", *near)
    jobs.run(jobs.PYTHON, jobs.KILL_AT, "rename plan", 2, *full)  # that of what is shared
    assert (tmp_path / "out" / "_embedbeam" / "copies" / "done.json").exists()
    jobs.write_jsonl(tmp_path / "in" / "d.jsonl", [{"id": "d0", "text": "something else"}])
    assert cli(*full) == (0, "", "")
    got = {row["doc_id"]: row for row in rows(tmp_path / "out")}
    assert got.keys() == {f"e{i}" for i in range(6)}
    (tmp_path / "in" / "d.jsonl").unlink()
    assert cli(*command(model, tmp_path / "in", tmp_path / "fresh")) == (0, "", "")
    for row in rows(tmp_path / "fresh"):
        assert got[row["doc_id"]]["fingerprint"] == row["fingerprint"]
        assert got[row["doc_id"]]["embedding"] == pytest.approx(row["embedding"], abs=1e-6)


def test_mistakes(model, corpus, tmp_path, cli):
    def refused(*flags):
        code, _, err = cli(*command(model, corpus, tmp_path / "out", *flags))
        assert (code, err.count("\n"), list(tmp_path.iterdir())) == (2, 1, [])
        return err

    assert "--near-duplicates 0.9: finds what --duplicates each embeds anyway" in refused(
        "--near-duplicates=0.9"
    )
    chunks = ["--long-documents=chunks", "--near-duplicates=0.9", "--duplicates=embed-once"]
    assert "a chunk's place and text are its own document's" in refused(*chunks)
    above = refused("--near-duplicates=1.5", "--duplicates=keep-first")
    assert "expected a Jaccard similarity above 0, and 1 at most" in above


@pytest.mark.kill
@pytest.mark.slow
@pytest.mark.parametrize("policy", ["embed-once", "keep-first"])
@pytest.mark.parametrize("point", [("rename part", 2), ("after rename receipt", 5), ("rename plan", 2)])
def test_killed_and_gone_on_with(policy, point, model, corpus, each, tmp_path, cli):
    full = command(model, corpus, tmp_path / "out", f"--duplicates={policy}")
    jobs.run(jobs.PYTHON, jobs.KILL_AT, *point, *full)
    assert not (tmp_path / "out" / "_SUCCESS").exists() or point[0] == "rename plan"
    assert cli(*full) == (0, "", "")
    {"embed-once": check_once, "keep-first": check_first}[policy](tmp_path / "out", each)


@pytest.mark.runners
@pytest.mark.slow
@pytest.mark.parametrize("policy", ["embed-once", "keep-first"])
def test_on_flink(policy, model, corpus, each, tmp_path, cli, flink_cluster):
    there = [*flink_cluster.options(), *remote.PROCESS, f"--duplicates={policy}"]
    code, _, err = cli(*command(model, corpus, tmp_path / "out", *there))
    assert (code, err) == (0, "")
    {"embed-once": check_once, "keep-first": check_first}[policy](tmp_path / "out", each)


@pytest.mark.runners
@pytest.mark.slow
def test_near_ones_on_flink(model, tmp_path, cli, flink_cluster):
    """The launcher finds them, and the workers what was embedded for their first ones."""
    texts = write_near(tmp_path / "in")
    there = [*flink_cluster.options(), *remote.PROCESS, "--near-duplicates=0.8", "--duplicates=embed-once"]
    code, _, err = cli(*command(model, tmp_path / "in", tmp_path / "out", *there))
    assert (code, err) == (0, "")
    check_near(tmp_path / "out", texts, "embed-once")

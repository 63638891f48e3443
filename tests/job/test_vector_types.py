"""Vectors in fewer bits through the command, and the lines that docs/vector-types.md decodes them with."""

import re

import duckdb
import jobs
import numpy as np
import pytest

from transforms.output.reader import open_output

PAGE = (jobs.ROOT / "docs/vector-types.md").read_text()


def vectors(output):
    ids, blocks = zip(*open_output(str(output)).vectors(), strict=True)
    found = dict(zip([i for some in ids for i in some], np.concatenate(blocks), strict=True))
    return np.stack([found[i] for i in sorted(found)])


@pytest.fixture(scope="module")
def folder(tmp_path_factory, model):
    """Outputs of the same documents, one for each type and format."""
    from pipeline.embed import embed

    folder = tmp_path_factory.mktemp("types")
    source = jobs.write_jsonl(folder / "in.jsonl", jobs.documents(40))
    for kind in ("float32", "int8", "ubinary"):
        for form in ("parquet", "tfrecord"):
            name = f"out-{kind}" + ("" if form == "parquet" else "-tf")
            embed(
                input=source,
                output=folder / name,
                model=model,
                id_field="id",
                vector_dtype=kind,
                output_format=form,
                quiet=True,
            )
    return folder


@pytest.mark.parametrize("form", ["", "-tf"])
def test_the_reader_gives_float32_back(folder, form, cli):
    whole = vectors(folder / f"out-float32{form}")
    int8 = vectors(folder / f"out-int8{form}")
    assert np.abs(int8 - whole).max() <= np.abs(whole).max() / 127
    assert np.array_equal(vectors(folder / f"out-ubinary{form}"), np.where(whole > 0, 1, -1))
    for kind in ("int8", "ubinary"):
        code, text, err = cli("verify", folder / f"out-{kind}{form}")
        assert (code, err) == (0, ""), text


def test_the_lines_of_the_page(folder, monkeypatch):
    monkeypatch.chdir(folder)
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    made = {}
    exec(code, made)
    ids, blocks = zip(*open_output("out-int8").vectors(), strict=True)
    ids = [i for some in ids for i in some]
    np.testing.assert_allclose(made["int8_vectors"], np.concatenate(blocks), rtol=1e-6)
    bits = np.concatenate([block for _, block in open_output("out-ubinary").vectors()])
    assert np.array_equal(made["ubinary_vectors"], bits)
    assert made["hamming"].tolist() == (bits != bits[0]).sum(axis=1).tolist()
    decoded, ones = (duckdb.sql(line).fetchall() for line in re.findall(r"SELECT [^;]*", PAGE))
    by_id = dict(decoded)
    np.testing.assert_allclose([by_id[i] for i in ids], np.concatenate(blocks), rtol=1e-5)
    assert dict(ones) == dict(zip(ids, (bits > 0).sum(axis=1).tolist(), strict=True))


def test_bits_need_whole_bytes(folder, model, cli):
    code, _, err = cli(
        *("embed", f"--input={folder / 'in.jsonl'}", f"--output={folder / 'no'}", f"--model={model}"),
        *("--vector-dtype=ubinary", "--dim=6"),
    )
    assert code == 2
    assert "--vector-dtype ubinary: has eight numbers in a byte, and the vectors have 6" in err


def test_shorter_vectors(folder, model, cli):
    flags = [f"--input={folder / 'in.jsonl'}", f"--output={folder / 'short'}", f"--model={model}"]
    assert cli("embed", *flags, "--id-field=id", "--dim=4")[0] == 0
    head = vectors(folder / "out-float32")[:, :4]
    head /= np.linalg.norm(head, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors(folder / "short"), head, atol=1e-6)
    assert open_output(str(folder / "short")).dim == 4
    code, _, err = cli("embed", *flags, "--id-field=id", "--dim=5")
    assert (code, "`dim`" in err or "--dim" in err) == (2, True), err
    prints = [row["fingerprint"] for row in jobs.rows(folder / "short")]
    assert prints != [row["fingerprint"] for row in jobs.rows(folder / "out-float32")]
    code, _, err = cli(*("embed", *flags[:1], f"--output={folder / 'no'}", flags[2], "--dim=9"))
    assert code == 2
    assert "--dim 9: the model's vectors have 8 numbers" in err

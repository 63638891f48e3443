"""Part files of an output as input: true sources and positions, of Parquet and TFRecord alike."""

import outputs
import pytest
from reading import whole

from transforms.formats import slices
from transforms.formats.base import ReadOptions
from transforms.formats.registry import get
from transforms.modality import get as modality
from transforms.output.reader import open_output
from transforms.steps.documents import document_columns

OPTIONS = ReadOptions(id_field="doc_id", keep_fields=("kind",), kept=(("kind", "string"),))


def documents(path, limit=None):
    piece = whole(path, "rows", limit=limit)
    slices.check_slice(piece, OPTIONS)
    blocks = slices.read_slice(piece, OPTIONS)
    found = [document_columns(raw, piece, OPTIONS, modality("text"), index=0, key=b"") for raw in blocks]
    return [row for batch, _ in found for row in batch.to_pylist()], [
        one for _, some in found for one in some
    ]


@pytest.mark.parametrize("how", ["parquet", "tfrecord", "gzip"])
def test_rows_keep_where_they_come_from(how, tmp_path):
    head = {"output_format": "tfrecord" if how == "gzip" else how, "tfrecord_gzip": how == "gzip"}
    kept = {"keep_text": True, "kept": [["kind", "string"]], "values": {"kind": "é"}}
    made = outputs.make(tmp_path / "out", shards=1, per_shard=7, **kept, **head)
    [part] = made.path.glob("part-*")
    rows, letters = documents(part)
    columns = ["doc_id", "source", "position", "text", "kind"]
    [block] = open_output(str(made.path)).rows(columns)
    assert [[row[name] for name in ("doc_id", "source", "position", "payload", "kind")] for row in rows] == [
        [row[name] for name in columns] for row in block.to_pylist()
    ]
    assert letters == []
    assert rows[0]["source"] == "in.jsonl"
    assert len(documents(part, limit=3)[0]) == 3


def test_damaged_records_are_told_by_their_place_in_the_part(tmp_path):
    made = outputs.make(tmp_path / "out", shards=1, per_shard=5, keep_text=True, output_format="tfrecord",
                        kept=[["kind", "string"]])  # fmt: skip
    [part] = made.path.glob("part-*")
    data = bytearray(part.read_bytes())
    at = data.rfind(b"a text")
    data[at] ^= 1
    part.write_bytes(data)
    rows, [letter] = documents(part)
    assert len(rows) == 4
    assert (letter.source, letter.position, letter.kind) == (part.name, 4, "wrong checksum")


def test_files_are_cut_as_their_kind_allows(tmp_path):
    parts = {}
    for kind in ("parquet", "tfrecord"):
        outputs.make(tmp_path / kind, shards=1, keep_text=True, output_format=kind)
        [path] = (tmp_path / kind).glob("part-*")
        parts[kind] = whole(path, "rows")
    one, other = parts.values()
    assert get("rows").cut([one, other, one], 1) == [[one], [other], [one]]

"""Files of TensorBoard's Embedding Projector: tensors, metadata, and the configuration that names them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.map.points import shortened
from pipeline.target import begin_in
from transforms.output import layout
from transforms.output.reader import Output
from transforms.output.sample import sample_rows

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE = 10_000  # points that browsers draw without stuttering
MOST = 100_000  # that they draw at all
_TEXT = 200
TENSORS, METADATA, CONFIG = "tensors.tsv", "metadata.tsv", "projector_config.pbtxt"


def write_projector(
    output: Output, *, sample: int, seed: int, to: str | None, told: Callable[[str], None]
) -> dict[str, Any]:
    """Writes the three files into OUT/_projector, or into the folder `to`.

    The tensor is text: TensorBoard reads bytes only after it failed to read text, which zeros do not make it
    do; and the Projector's own page takes text alone.

    Args:
      sample: most rows.
      told: hears what is being done.
    """
    has = output.schema
    fields = [name for name, kind in has.kept if "binary" not in kind]
    own = ["doc_id", *(["chunk"] if has.chunks else []), *(["text"] if has.keep_text else [])]
    told(f"reading {min(sample, output.count):,} of {output.count:,} rows")
    rows = sample_rows(output, sample, seed, [*own, *fields, *output.vector_columns])
    vectors = output.matrix(rows)
    folder = to.rstrip("/") if to else output.folder.join(layout.PROJECTOR)
    made: dict[str, Iterable[bytes]] = {
        TENSORS: (tensors(vectors[low : low + 1024]).encode() for low in range(0, len(vectors), 1024)),
        METADATA: [metadata(rows.select([*own, *fields])).encode("utf-8", "backslashreplace")],
        CONFIG: [config(output.plan.job, vectors.shape).encode()],
    }
    for name, data in made.items():  # the configuration last: it names the others
        file = begin_in(output.folder, f"{layout.PROJECTOR}/{name}", to)
        for piece in data:
            file.write(piece)
        file.commit()
    return {"folder": folder, "points": len(rows), "rows": output.count, "dim": output.dim}


def tensors(vectors: np.ndarray) -> str:
    """A line a row; seven digits, which are nearly all that a float32 has."""
    return "".join("\t".join(map("%.7g".__mod__, row)) + "\n" for row in vectors.tolist())


def metadata(rows: pa.Table) -> str:
    """A line a row; a header only where there are several columns, as the Projector wants it.

    Tabs and line breaks in values become spaces.
    """
    columns = [[cell(value) for value in rows[name].to_pylist()] for name in rows.column_names]
    lines: list[Sequence[str]] = list(zip(*columns, strict=True))
    if len(columns) > 1:
        lines.insert(0, [cell(name) for name in rows.column_names])
    return "".join("\t".join(line) + "\n" for line in lines)


def cell(value: Any) -> str:
    """A value on one line; a space where there is none, since a line that is empty would be left out.

    >>> cell("a\\tlong\\r\\ntext"), cell(None), cell(0.5)
    ('a long text', ' ', '0.5')
    """
    return " " if value is None else shortened(str(value), _TEXT) or " "


def config(job: str, shape: tuple[int, ...]) -> str:
    """The configuration, protocol buffer text; a comment has the job's identity."""
    rows, dim = shape
    return (
        f"# embedbeam job {job}\n"
        f'embeddings {{\n  tensor_name: "embeddings"\n  tensor_shape: {rows}\n  tensor_shape: {dim}\n'
        f'  tensor_path: "{TENSORS}"\n  metadata_path: "{METADATA}"\n}}\n'
    )

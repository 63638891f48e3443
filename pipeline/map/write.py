"""Makes the map of an output: places of all rows as Parquet, a picture, and a page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.map.clusters import Clusters, find_clusters
from pipeline.map.picture import draw
from pipeline.map.points import colouring, page_data, shortened
from pipeline.map.projection import Projection, check_method, fit, placed
from pipeline.map.script import map_html, page
from pipeline.target import begin_in
from pipeline.words import texts_of
from transforms.errors import UsageError
from transforms.output import layout
from transforms.output.pending import committing
from transforms.output.reader import Output
from transforms.output.sample import chosen_rows, sample_rows

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE = 10_000  # rows on which a projection is fitted, if nothing else is said
PICTURED = 20_000  # points of a picture and of a page at most
_AXES = ("x", "y", "z")
_BLOCK = 8192

_NAMES = {"umap": "UMAP", "tsne": "t-SNE", "pca": "PCA"}


@dataclasses.dataclass(frozen=True)
class MapOptions:
    """What is asked for.

    Attributes:
      method: umap, tsne or pca.
      dim: 2 or 3.
      color: the field by which points are coloured; None means the clusters.
      sample: rows on which UMAP and t-SNE are fitted, and that are drawn; None means all.
      clusters: how many regions are named.
      seed: of all that is drawn at random.
      to: a folder other than the output's.
    """

    method: str
    dim: int = 2
    color: str | None = None
    sample: int | None = SAMPLE
    clusters: int = 10
    seed: int = 0
    to: str | None = None


def make_map(output: Output, options: MapOptions, told: Callable[[str], None]) -> dict[str, Any]:
    """Writes the map; returns where its files are, and what was done.

    Args:
      told: hears what is being done.

    Raises:
      UsageError: no such field, too few rows, a package is missing.
    """
    fields = [name for name, kind in output.schema.kept if "binary" not in kind]
    colours = [*fields, "tokens", "source"]
    if options.color not in (None, *colours):
        raise UsageError(
            f"--color {options.color}: no such field; there are {', '.join(colours)}", argument="color"
        )
    total = output.count
    count = min(options.sample or total, total)
    check_method(options.method, options.dim, count, output.dim)
    told(f"reading a sample of {count:,} rows")
    has = output.schema
    own = [*(["chunk"] if has.chunks else []), *(["text"] if has.keep_text else [])]
    columns = ["doc_id", *output.vector_columns, *own, *colours]
    rows = sample_rows(output, count, options.seed, columns)
    vectors = output.matrix(rows)
    told(f"fitting {options.method}")
    # A PCA sees everything, if nobody asked for a sample.
    everything = (lambda: _told(output, told)) if options.method == "pca" and count < total else None
    projection = fit(options.method, vectors, dim=options.dim, seed=options.seed, everything=everything)
    told("finding clusters")
    strings = (
        ["text"] if has.keep_text else ["doc_id", *(name for name, kind in has.kept if kind == "string")]
    )
    texts = texts_of(rows, strings)
    clusters = find_clusters(projection.sample, options.clusters, list(texts), seed=options.seed)
    chosen = chosen_rows(total, count, options.seed)
    where, without = _table(output, options, projection, clusters, chosen, told)
    files = {"parquet": where}
    told("drawing")
    files |= _pictures(output, options, rows, projection, clusters, colours)
    sizes = zip(clusters.names, clusters.sizes, strict=True)
    finite = int(np.isfinite(projection.sample).all(axis=1).sum())
    return files | {
        "rows": total,
        "without_place": without,
        "fitted_on": total - without if everything else finite,
        "pictured": min(finite, PICTURED),
        "words_from": strings,
        "clusters": [{"words": words, "rows_of_sample": size} for words, size in sizes],
    }


def _told(output: Output, told: Callable[[str], None]) -> Iterator[np.ndarray]:
    done = 0
    for _, vectors in output.vectors(block_rows=_BLOCK):
        yield vectors
        done += len(vectors)
        told(f"fitting: {done:,} of {output.count:,} rows")


def _table(
    output: Output,
    options: MapOptions,
    projection: Projection,
    clusters: Clusters,
    chosen: np.ndarray,
    told: Callable[[str], None],
) -> tuple[str, int]:
    """Writes the places of all rows; returns where, and how many rows have none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    wanted = ("doc_id", "chunk", options.color or "")
    ids = [name for name in wanted if name in output.arrow.names]
    taken = {*_AXES, "cluster", "doc_id", "chunk"}
    names = ["color" if name == options.color and name in taken else name for name in ids]
    how = {name: value for name, value in dataclasses.asdict(options).items() if name != "to"}
    schema = pa.schema(
        [pa.field(new, output.arrow.field(name).type) for name, new in zip(ids, names, strict=True)]
        + [pa.field(axis, pa.float32()) for axis in _AXES[: options.dim]]
        + [pa.field("cluster", pa.int32())],
        metadata={"embedbeam.job": output.plan.job, "embedbeam.map": json.dumps(how)},
    )
    name = f"{layout.MAP}/{options.method}.parquet"
    file = begin_in(output.folder, name, options.to)
    blocks = (
        (block.select(ids), output.matrix(block))
        for block in output.rows([*ids, *output.vector_columns], block_rows=_BLOCK)
    )
    done = without = 0
    with committing(file), pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for block, places in placed(blocks, projection, chosen):
            made = [*block.columns, *places.T.astype(np.float32), clusters.of(places)]
            writer.write_batch(pa.record_batch([pa.array(one) for one in made], schema=schema))
            done += len(block)
            without += int((~np.isfinite(places).all(axis=1)).sum())
            told(f"placing rows: {done:,} of {output.count:,}")
    return _where(output, options, "parquet"), without


def _where(output: Output, options: MapOptions, extension: str) -> str:
    folder = output.folder.join(layout.MAP) if options.to is None else options.to.rstrip("/")
    return f"{folder}/{options.method}.{extension}"


def _pictures(
    output: Output,
    options: MapOptions,
    rows: pa.Table,
    projection: Projection,
    clusters: Clusters,
    colours: list[str],
) -> dict[str, str]:
    """Writes the picture and the page; returns where they are."""
    import pyarrow as pa

    sound = np.flatnonzero(np.isfinite(projection.sample).all(axis=1))
    some = sound[chosen_rows(len(sound), PICTURED, options.seed)]
    rows, places = rows.take(some), projection.sample[some]
    named = pa.array([clusters.names[one] for one in clusters.of(places).tolist()])
    own = "cluster" if "cluster" not in rows.column_names else "cluster of the map"
    rows, by = rows.append_column(own, named), options.color or own
    labels = list(zip(clusters.names, clusters.centres, strict=True))
    drawn = f"{len(places):,} of {output.count:,} rows" if len(places) < output.count else "all rows"
    model = shortened(str(output.plan.head.get("model", "")).rstrip("/").rpartition("/")[2], 40)
    title = f"{_NAMES[options.method]} of {model}: {drawn}"
    colours_of = colouring(rows[by].to_pylist())
    png = draw(places, colours_of, title=title, legend=by, labels=labels, job=output.plan.job)
    data = page_data(rows, places, output.schema, fields=[own, *colours], first=by)
    if options.dim == 2:
        data["labels"] = [{"text": text, "x": float(p[0]), "y": float(p[1])} for text, p in labels]
    note = f"{drawn}, drawn at random." if len(places) < output.count else "All rows."
    body = f"<h1>{_NAMES[options.method]}</h1>{map_html(data, note)}"
    html = page(title, body, job=output.plan.job).encode("utf-8", "backslashreplace")
    for extension, made in (("png", png), ("html", html)):
        file = begin_in(output.folder, f"{layout.MAP}/{options.method}.{extension}", options.to)
        file.write(made)
        file.commit()
    return {extension: _where(output, options, extension) for extension in ("png", "html")}

"""Makes the report of an output, as one page."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.map.points import page_data
from pipeline.map.script import map_html, page
from pipeline.report import page as parts
from pipeline.report.findings import Finding, findings
from pipeline.report.ledgers import examples, mini_batches, throughput
from pipeline.report.measures import measure
from pipeline.report.sample import few_rows
from transforms.elements import ShardReceipt
from transforms.errors import UsageError
from transforms.extras import check_extra
from transforms.output import layout
from transforms.output.manifest import Manifest
from transforms.output.reader import Output

if TYPE_CHECKING:
    import pyarrow as pa

_LOG = logging.getLogger(__name__)
_AT_END = 2000  # rows of which the report at the end of a job is made
_FIELDS = 30  # by which the map can be coloured


def columns(output: Output) -> list[str]:
    """What is read of a sampled row."""
    has = output.schema
    own = ["doc_id", *output.vector_columns, "tokens", "tokens_dropped", "source"]
    more = [*(["chunk"] if has.chunks else []), *(["text"] if has.keep_text else [])]
    return [*own, *more, *kept_fields(output)]


def kept_fields(output: Output) -> list[str]:
    return [name for name, kind in output.schema.kept if "binary" not in kind][:_FIELDS]


def make_report(
    output: Output, manifest: Manifest, receipts: Sequence[ShardReceipt], rows: pa.Table, *, drawn: str
) -> tuple[str, list[Finding], dict[str, Any]]:
    """The page, its warnings, and its figures.

    Args:
      receipts: of the committed shards.
      rows: the sample, with `columns`.
      drawn: how it was drawn, as a sentence.
    """
    measures = measure(output.matrix(rows))
    tokens = rows["tokens"].drop_null().to_numpy()
    cut = int(np.count_nonzero(rows["tokens_dropped"].drop_null().to_numpy()))
    found = list(findings(manifest, measures, rows=len(rows), cut=cut))
    dead = examples(output, receipts)
    sections = [
        *parts.head(manifest, partial=len(receipts) < len(output.plan.shards)),
        parts.warnings(found, rows=len(rows), total=manifest.rows),
        parts.work(throughput(receipts), mini_batches(output, receipts), manifest),
        parts.letters(manifest.dead_letters, dead, manifest.skipped),
    ]
    if len(rows):
        sections += [
            parts.vectors(measures, tokens, chunks=output.schema.chunks),
            f"<h2>Map</h2>{_map(output, rows, measures.places, drawn)}",
            parts.twins(measures, rows, output.schema),
        ]
    sections.append(parts.facts(manifest))
    title = f"embedbeam: {manifest.model}, {manifest.rows:,} rows"
    figures = {
        "rows_sampled": len(rows),
        "random_cosine": _mean(measures.random),
        "nearest_cosine": _mean(measures.nearest),
        "near_duplicates": measures.twins,
        "directions": measures.directions,
        "warnings": [finding.what for finding in found],
    }
    return page(title, "\n".join(sections), job=output.plan.job, style=parts.STYLE), found, figures


def _mean(values: np.ndarray) -> float | None:
    return round(float(values.mean()), 4) if len(values) else None


def _map(output: Output, rows: pa.Table, places: np.ndarray, drawn: str) -> str:
    try:
        check_extra("explore", "plotly", what="the map")
    except UsageError as e:
        return f"<p>{parts.prose(str(e))}</p>"
    fields = [*kept_fields(output), "tokens", "source"]
    if not rows["tokens"].null_count < len(rows):
        fields.remove("tokens")
    note = f"{drawn} The first two principal components; embedbeam map makes others."
    return map_html(page_data(rows, places, output.schema, fields=fields), note)


def write_at_end(output: Callable[[], Output], manifest: Manifest, receipts: Sequence[ShardReceipt]) -> None:
    """Writes the report of a job whose books balance, from a few row groups; no job fails for want of it."""
    try:
        opened = output()
        rows = few_rows(opened, receipts, _AT_END, columns=columns(opened), seed=0)
        drawn = drawn_words(len(rows), manifest.rows, "of a few row groups")
        made, _, _ = make_report(opened, manifest, receipts, rows, drawn=drawn)
        opened.folder.write(layout.REPORT, made.encode("utf-8", "backslashreplace"))
    except Exception as e:
        reason = " ".join(str(e).split()) or type(e).__name__
        print(f"embedbeam: no {layout.REPORT} ({reason}); `embedbeam report` makes it", file=sys.stderr)
        _LOG.info("traceback", exc_info=True)


def drawn_words(rows: int, total: int, where: str = "drawn at random") -> str:
    """How many rows are shown."""
    return f"All {total:,} rows." if rows == total else f"{rows:,} of {total:,} rows, {where}."

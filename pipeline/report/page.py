"""The report as a page: its sections in HTML, every text of the user escaped."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.map.points import names, shortened
from pipeline.report.charts import bars, histogram, number
from pipeline.report.findings import Finding
from pipeline.report.ledgers import MiniBatches, Throughput
from pipeline.report.measures import NEAR, Measures
from transforms.elements import DeadLetter
from transforms.output.manifest import Manifest

if TYPE_CHECKING:
    import pyarrow as pa

    from transforms.output.schema import RowSchema

STYLE = """
h1{font-size:1.6em;margin:.2em 0;overflow-wrap:anywhere}h2{font-size:1.2em;margin:1.6em 0 .4em}
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:6px;padding:10px 12px}
figcaption{font-weight:600;font-size:14px}figcaption small{display:block;font-weight:400;color:var(--dim)}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(280px,1fr));gap:12px}
.bars{display:flex;align-items:flex-end;height:110px;gap:1px;margin-top:8px;
border-bottom:1px solid var(--line)}
.bars i{flex:1;background:var(--accent);min-width:1px}
.axis{display:flex;justify-content:space-between;font-size:12px;color:var(--dim);gap:12px}
.tiles{display:grid;grid-template-columns:repeat(auto-fill,minmax(124px,1fr));gap:10px}
.tiles div{background:var(--card);border:1px solid var(--line);border-radius:6px;padding:8px 12px;
overflow-wrap:anywhere}
.tiles b{display:block;font-size:1.35em;font-weight:600}.tiles span{color:var(--dim);font-size:13px}
.warn{background:var(--warn-paper);border-left:4px solid var(--warn);border-radius:4px;padding:8px 12px;
margin:8px 0}.warn b{color:var(--warn);display:block}
.good{color:var(--dim)}
.table{overflow-x:auto}table{border-collapse:collapse;width:100%;font-size:14px}
td,th{text-align:start;vertical-align:top;padding:4px 10px 4px 0;border-bottom:1px solid var(--line);
overflow-wrap:anywhere}
th{white-space:nowrap}td:first-child{white-space:nowrap;font-variant-numeric:tabular-nums}
.facts td:first-child{color:var(--dim)}
@media (max-width:600px){.stacked th{display:none}.stacked td{display:block;border:0;padding:1px 0}
.stacked td:last-child{border-bottom:1px solid var(--line);padding-bottom:8px}
.stacked td:first-child{font-weight:600}}
td p{margin:0}td small{color:var(--dim)}
"""

_CODE = re.compile("`(.*?)`")
_CUT = 200  # characters of a text, or of a broken record, that are shown


def text(value: Any, most: int = _CUT) -> str:
    """A user's text as an element of its own direction, on one line."""
    return f'<bdi dir="auto">{escape(shortened(str(value), most))}</bdi>'


def prose(words: str) -> str:
    """Words of ours, with `code` between backticks."""
    return _CODE.sub(r"<code>\1</code>", escape(words))


def tiles(pairs: Iterable[tuple[str, str]]) -> str:
    made = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in pairs)
    return f'<div class="tiles">{made}</div>'


def table(rows: Iterable[Sequence[str]], head: Sequence[str] = (), kind: str = "") -> str:
    """Cells are HTML."""
    top = f"<tr>{''.join(f'<th>{escape(name)}</th>' for name in head)}</tr>" if head else ""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="table"><table class="{kind}">{top}{body}</table></div>'


def head(manifest: Manifest, *, partial: bool) -> Iterator[str]:
    """What was embedded, with which model."""
    options = manifest.options
    inputs = options.get("input") or ["?"]
    more = f" and {len(inputs) - 1} more" if len(inputs) > 1 else ""
    yield f"<h1>{text(inputs[0], 300)}{more}</h1>"
    version = f" at revision {manifest.model_revision}" if manifest.model_revision else ""
    yield (
        f"<p>embedded with <b>{text(manifest.model, 300)}</b>{escape(version)} into "
        f"{manifest.rows:,} vectors of {manifest.dim} {escape(manifest.dtype)} numbers"
        f"{', so far: the job has not finished' if partial else ''}.</p>"
    )
    dead = sum(manifest.dead_letters.values())
    shown = [
        ("documents", f"{manifest.documents:,}"),
        ("rows", f"{manifest.rows:,}"),
        ("dead letters", f"{dead:,}"),
        *([("forgotten", f"{manifest.forgotten:,}")] if manifest.forgotten else []),
        ("tokens", "not counted" if manifest.tokens is None else f"{manifest.tokens:,}"),
        ("tokens not embedded", "?" if manifest.tokens_dropped is None else f"{manifest.tokens_dropped:,}"),
        ("seconds of the last run", number(round(manifest.wall_seconds, 1))),
        ("of part files", _bytes(manifest.output_bytes)),
    ]
    yield tiles(shown if manifest.wall_seconds else [one for one in shown if "second" not in one[0]])


def _bytes(count: int) -> str:
    units = ["bytes", "kB", "MB", "GB", "TB"]
    power = min(len(units) - 1, max(0, (len(str(count)) - 1) // 3))
    return f"{count / 1000**power:.3g} {units[power]}"


def warnings(found: Sequence[Finding], *, rows: int, total: int) -> str:
    """Warnings, or that there are none."""
    made = "".join(f'<div class="warn"><b>{prose(f.what)}</b>{prose(f.means)}</div>' for f in found)
    if not made:
        looked = "all rows" if rows == total else f"{rows:,} of {total:,} rows"
        made = f'<p class="good">Nothing looks wrong ({looked} were looked at).</p>'
    return f"<h2>What looks wrong</h2>{made}"


def work(seen: Throughput | None, batches: MiniBatches | None, manifest: Manifest) -> str:
    """Throughput over time, mini-batches and padding."""
    charts = []
    if seen is not None:
        rates, unit = (seen.rows, "rows") if seen.tokens is None else (seen.tokens, "tokens")
        begins = seen.start + seen.seconds * np.arange(len(rates) + 1)
        days = {time.gmtime(one)[:3] for one in (begins[0], begins[-1])}
        form = "%H:%M:%S" if len(days) == 1 else "%Y-%m-%d %H:%M"
        clock = [time.strftime(form, time.gmtime(one)) for one in begins.tolist()]
        hints = [f"{a}: {number(rate)} {unit}/s" for a, rate in zip(clock, rates.tolist(), strict=False)]
        day = time.strftime("%Y-%m-%d ", time.gmtime(seen.start)) if len(days) == 1 else ""
        note = f"{unit} a second; {day}UTC; most {number(float(rates.max()))}"
        charts.append(bars("Throughput over time", rates, (clock[0], clock[-1]), hints=hints, note=note))
    said = []
    if batches is not None:
        charts.append(histogram("Documents or chunks in a mini-batch", batches.chunks))
        charts.append(histogram("Tokens in a mini-batch", batches.tokens))
        charts.append(histogram("Seconds of a mini-batch in the model", batches.seconds))
        said.append(
            f"{batches.padding:.1%} of what the model is given would be padding, were each text as long as "
            "the longest of its mini-batch."
        )
    elif manifest.mini_batches:
        rows, tokens = manifest.rows / manifest.mini_batches, (manifest.tokens or 0) / manifest.mini_batches
        words = f" and {number(round(tokens))} tokens" if manifest.tokens else ""
        said.append(
            f"{manifest.mini_batches:,} mini-batches of {number(round(rows, 1))} rows{words} on average. "
            "With `embed --trace` their sizes and padding would stand here."
        )
    if manifest.model_waited:
        said.append(f"The model waited {manifest.model_waited['share']:.1%} of its time.")
    if not charts and not said:
        return ""
    return f'<h2>The work</h2><div class="charts">{"".join(charts)}</div><p>{prose(" ".join(said))}</p>'


def letters(
    reasons: Mapping[str, int], examples: Mapping[str, Sequence[DeadLetter]], skipped: Mapping[str, int]
) -> str:
    """Dead letters by reason, with examples."""
    rows = []
    for reason, count in reasons.items():
        shown = "".join(
            f"<p>{text(one.doc_id, 120)} {text(one.detail, 160)} "
            f"<small>{text(one.payload or '', 120)}</small></p>"
            for one in examples.get(reason, ())
        )
        rows.append((f"{count:,}", escape(reason), shown))
    parts = [
        f"<h2>Dead letters</h2>{table(rows, ('documents', 'reason', 'examples'), 'stacked')}" if rows else ""
    ]
    if skipped:
        listed = ", ".join(f"{escape(what)} ({count:,})" for what, count in list(skipped.items())[:8])
        parts.append(f"<p>Skipped, no documents: {listed}</p>")
    return "".join(parts)


def vectors(measures: Measures, tokens: np.ndarray, *, chunks: bool) -> str:
    """Lengths of documents, norms, cosines, spread."""
    span = _cosine_span(measures)
    charts = [
        histogram(f"Tokens of a {'chunk' if chunks else 'document'}", tokens),
        histogram("Length (norm) of a vector", measures.norms),
        histogram("Cosine of two rows at random", measures.random, span=span),
        histogram("Cosine of a row and the one nearest to it", measures.nearest, span=span),
    ]
    if measures.directions:
        first = measures.spread[:40]
        hints = [f"direction {i + 1}: {share:.1%} of the variance" for i, share in enumerate(first.tolist())]
        note = f"{measures.directions} of {len(measures.spread)} directions hold nine tenths of the variance"
        ends = ("1", str(len(first)))
        charts.append(bars("Variance along principal directions", first, ends, hints=hints, note=note))
    return f'<h2>The vectors</h2><div class="charts">{"".join(charts)}</div>'


def _cosine_span(measures: Measures) -> tuple[float, float] | None:
    """One range for both histograms of cosines, so that they can be compared."""
    if not len(measures.random):
        return None
    low = min(float(measures.random.min()), float(measures.nearest.min()))
    return np.floor(low * 10) / 10, 1.0


def twins(measures: Measures, rows: pa.Table, has: RowSchema) -> str:
    """The nearest pairs."""
    if not measures.pairs:
        return ""
    called = names(rows, chunks=has.chunks)
    texts = rows["text"].to_pylist() if has.keep_text else None

    def one(row: int) -> str:
        below = f"<p><small>{text(texts[row])}</small></p>" if texts else ""
        return text(called[row], 120) + below

    listed = [(f"{cosine:.4f}", one(a), one(b)) for a, b, cosine in measures.pairs]
    return (
        f"<h2>Near-duplicates</h2><p>{measures.twins:,} of {len(rows):,} sampled rows have another one at a "
        f"cosine of {NEAR} or more. The nearest pairs:</p>"
        f"{table(listed, ('cosine', 'one', 'the other'), 'stacked')}"
    )


def facts(manifest: Manifest) -> str:
    """The job's options and versions, for whoever asks later."""
    options = {k: v for k, v in manifest.options.items() if v not in (None, [], {}, "")}
    about = {
        "job": manifest.job,
        "model digest": manifest.model_digest,
        "finished": manifest.finished,
        "host": manifest.host,
        "device": manifest.device,
        "shards": f"{manifest.shards:,}",
        "part files": f"{manifest.parts:,}",
    }
    rows = [(text(name), text(value, 400)) for name, value in (about | options).items()]
    rows += [(text(name), text(version)) for name, version in manifest.versions.items()]
    listed = table(rows, kind="facts")
    return f"<h2>The job</h2><details><summary>Options and versions</summary>{listed}</details>"

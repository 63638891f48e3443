"""What an experiment found, for people: a table, and plots."""

from __future__ import annotations

import html
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from transforms.extras import check_extra

MIB = 1 << 20
_FEW = 3  # trials: fewer give no quartiles worth the name
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }}
svg {{ width: 100%; height: auto }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums }}
td, th {{ padding: .2rem .8rem; text-align: right; border-bottom: 1px solid #ccc }}
tr.best {{ background: #e5f2e5; font-weight: 600 }}
</style></head><body>
<h1>{title}</h1>
<p>{line}</p>
{svg}
<table><thead><tr>{heads}</tr></thead><tbody>
{rows}
</tbody></table>
<script type="application/json" id="data">{data}</script>
</body></html>
"""
HEADS = (
    *("tokens", "in flight", "threads", "trials", "tokens/s", "quartiles", "documents/s"),
    *("ms", "ms p95", "MiB", "waited"),
)


def cells(row: dict[str, Any]) -> list[str]:
    """A row of `record_of` as people read it, under HEADS."""
    named = [f"{row['batch_tokens']:,}", str(row["in_flight"]), str(row["intra_op"] or "auto")]
    named.append(str(row["repeats"]))
    if not row["repeats"]:
        return [*named, row["stopped"] or "not tried", *[""] * (len(HEADS) - 5)]
    rate = f"{row['tokens_per_second']:,.0f}"
    return [
        *named,
        f"{rate} ({row['stopped']})" if row["stopped"] else rate,
        f"{row['first_quartile']:,.0f} to {row['third_quartile']:,.0f}",
        f"{row['documents_per_second']:,.1f}",
        f"{1000 * row['latency']:,.1f}",
        f"{1000 * row['latency_p95']:,.1f}",
        f"{row['peak_bytes'] / MIB:,.0f}",
        f"{row['waited']:.1%}",
    ]


def is_best(row: dict[str, Any], record: dict[str, Any]) -> bool:
    best = record["best"]
    return best is not None and all(row[name] == value for name, value in best.items())


def table(record: dict[str, Any]) -> str:
    """The trials, the best one marked."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    made = Table(box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    made.add_column("")
    for head in HEADS:
        made.add_column(head, justify="right", no_wrap=True)
    for row in sorted(record["trials"], key=_order):
        made.add_row("*" if is_best(row, record) else "", *cells(row))
    text = io.StringIO()
    Console(file=text, width=160, no_color=True).print(made)
    return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())


def _threads(intra_op: int) -> str:
    return "1 thread" if intra_op == 1 else f"{intra_op or 'automatic'} threads"


def _order(row: dict[str, Any]) -> tuple[int, ...]:
    return -row["in_flight"], row["intra_op"], row["batch_tokens"]


def headline(record: dict[str, Any]) -> str:
    """What was tried on what."""
    cores = f"{record['cores']} core{'' if record['cores'] == 1 else 's'}"
    return (
        f"{record['model']} on {record['device']}, {cores}: {record['documents']:,} documents of "
        f"about {record['tokens']:,} tokens for each trial"
    )


def in_words(record: dict[str, Any]) -> Iterator[str]:
    """An experiment in lines."""
    yield headline(record)
    if record["trials"]:
        yield table(record)
    best, usual = record["best"], record["usual"]
    if best is None:
        yield f"nothing is remembered: {record['reason']}"
        return
    rates = {
        tuple(row[name] for name in best): row["tokens_per_second"]
        for row in record["trials"]
        if row["repeats"]
    }
    gain = rates[tuple(best.values())] / rates.get(tuple(usual.values()), float("inf"))
    beside = f", {gain:.2f} times the usual {usual['batch_tokens']:,}" if gain and best != usual else ""
    yield (
        f"best: mini-batches of {best['batch_tokens']:,} tokens, {best['in_flight']} in flight, "
        f"{_threads(best['intra_op'])} each{beside}"
    )
    if (repeats := next(row["repeats"] for row in record["trials"] if is_best(row, record))) < _FEW:
        yield f"it was tried {repeats} time{'' if repeats == 1 else 's'} only: give more --minutes to be sure"
    if record["remembered"]:
        yield f"remembered in {record['remembered']}: `embed` takes it where no --batch-tokens is given"
    for path in record["plots"]:
        yield f"plot: {path}"


def check_plots() -> None:
    """Raises UsageError where the library is missing that draws."""
    check_extra("plot", "matplotlib", what="plots", argument="plot")


def write_plots(record: dict[str, Any], stem: Path) -> list[str]:
    """Writes STEM.png and STEM.html, which needs nothing but itself; each is there whole or not at all."""
    png, svg = io.BytesIO(), io.StringIO()
    figure = _draw(record)
    figure.savefig(png, format="png", dpi=120)
    figure.savefig(svg, format="svg")
    written = []
    for ending, data in ((".png", png.getvalue()), (".html", _page(record, svg.getvalue()).encode())):
        path = stem.with_name(stem.name + ending)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            temporary.write_bytes(data)
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        written.append(str(path))
    return written


def _draw(record: dict[str, Any]) -> Any:
    """Throughput, latency and memory over the token budget, a line for each use of the threads."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 10), layout="constrained")
    rate, latency, memory = figure.subplots(3, sharex=True)
    rows = sorted((row for row in record["trials"] if row["repeats"]), key=_order)
    for threads in dict.fromkeys((row["in_flight"], row["intra_op"]) for row in rows):
        of = [row for row in rows if (row["in_flight"], row["intra_op"]) == threads]
        budgets = [row["batch_tokens"] for row in of]
        rates = [row["tokens_per_second"] for row in of]
        spread = [
            [max(0.0, row["tokens_per_second"] - row["first_quartile"]) for row in of],
            [max(0.0, row["third_quartile"] - row["tokens_per_second"]) for row in of],
        ]
        label = f"{threads[0]} in flight, {_threads(threads[1])} each"
        line = rate.errorbar(budgets, rates, yerr=spread, marker="o", capsize=3, label=label)
        color = line.lines[0].get_color()
        latency.plot(budgets, [1000 * row["latency"] for row in of], marker="o", color=color)
        p95 = [1000 * row["latency_p95"] for row in of]
        latency.plot(budgets, p95, marker=".", linestyle=":", color=color)
        memory.plot(budgets, [row["peak_bytes"] / MIB for row in of], marker="o", color=color)
    if record["best"]:
        for axes in (rate, latency, memory):
            axes.axvline(record["best"]["batch_tokens"], color="0.6", linestyle="--", zorder=0)
    rate.set_ylabel("tokens/s (median, quartiles)")
    latency.set_ylabel("ms a mini-batch (median, dotted p95)")
    memory.set_ylabel("peak memory, MiB")
    memory.set_xlabel("token budget of a mini-batch")
    memory.set_xscale("log", base=2)
    budgets = sorted({row["batch_tokens"] for row in rows})
    memory.set_xticks(budgets, [f"{budget:,}" for budget in budgets])
    memory.minorticks_off()
    for axes in (rate, latency, memory):
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    rate.legend()
    rate.set_title(f"{record['model']} on {record['device']}, {record['cores']} cores")
    return figure


def _page(record: dict[str, Any], svg: str) -> str:
    rows = []
    for row in sorted(record["trials"], key=_order):
        inner = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(row))
        rows.append(f"<tr{' class=best' if is_best(row, record) else ''}>{inner}</tr>")
    return _PAGE.format(
        title=html.escape(f"embedbeam tune: {record['model']}"),
        line=html.escape(headline(record)),
        svg=svg[svg.index("<svg") :],
        heads="".join(f"<th>{html.escape(head)}</th>" for head in HEADS),
        rows="\n".join(rows),
        data=json.dumps(record).replace("</", "<\\/"),
    )

"""The peers' table in docs/performance.md and docs/peers.svg, from benchmarks/results/peers.json."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
PAGE, PLOT = ROOT / "docs" / "performance.md", ROOT / "docs" / "peers.svg"
BEGIN, END = "<!-- peers: made by benchmarks/peers_page.py -->", "<!-- /peers -->"


def quartiles(row: dict[str, Any], job: dict[str, Any]) -> tuple[float, float, float]:
    """First quartile, median and third quartile of a peer's time over the job's, round by round."""
    pairs = list(zip(row["seconds"], job["seconds"], strict=False))
    low, middle, high = np.percentile([a / b for a, b in pairs], [25, 50, 75])
    return float(low), float(middle), float(high)


def ranked(results: dict[str, Any]) -> list[tuple[str, dict[str, Any], tuple[float, float, float] | None]]:
    """(name, row, quartiles): the fastest first, at the end those without a time."""
    peers = results["peers"]
    found = [(n, row, quartiles(row, peers["job"]) if row["seconds"] else None) for n, row in peers.items()]
    return sorted(found, key=lambda entry: entry[2][1] if entry[2] else float("inf"))


def table(results: dict[str, Any]) -> str:
    machine, corpus = results["machine"], results["corpus"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    lines = [
        f"{results['date']}, {machine['cores']} cores of an {machine['cpu']} (family {machine['family']}; "
        f"{', '.join(machine['flags'])}), {corpus['documents']:,} documents, by `make bench-peers`:",
        "",
        "| peer | threads | documents a mini-batch | time / the job's | quartiles | rounds | worst cosine |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row, spread in ranked(results):
        size = "1,000 tokens" if name.startswith("job") else row.get("size", "")
        if spread is None:
            lines.append(
                f"| {row['title']} | {row['threads']} | {size} | failed: {row.get('error')} | | 0 | |"
            )
            continue
        low, middle, high = spread
        cosine = "" if row.get("cosine") is None else f"{row['cosine']:.7f}"
        lines.append(
            f"| {row['title']} | {row['threads']} | {size} | **{middle:.2f}** | {low:.2f} to {high:.2f} "
            f"| {len(row['seconds'])} | {cosine} |"
        )
    return "\n".join([*lines, "", f"With {versions}.", "", "![time over the job's](peers.svg)"])


def plot(results: dict[str, Any]) -> str:
    """Bars of the medians with the quartiles as a line; SVG, readable on white and on black."""
    rows = [(row, spread) for _, row, spread in ranked(results) if spread]
    widest = max(spread[2] for _, spread in rows)
    scale, left, step = 340 / widest, 430, 24
    height = step * len(rows) + 34
    style = "<style>text{font:12px sans-serif;fill:#777}.b{fill:#4a86c5}.o{fill:#3a9a5c}</style>"
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" width="830" height="{height}">', style]
    one = left + scale
    parts.append(
        f'<line x1="{one:.0f}" x2="{one:.0f}" y1="4" y2="{height - 26}" stroke="#999" stroke-dasharray="3"/>'
    )
    for at, (row, (low, middle, high)) in enumerate(rows):
        y = 6 + step * at
        kind = "o" if row["title"].startswith("embedbeam") else "b"
        parts += [
            f'<text x="{left - 8}" y="{y + 13}" text-anchor="end">{row["title"]}, {row["threads"]}</text>',
            f'<rect class="{kind}" x="{left}" y="{y}" width="{scale * middle:.1f}" height="17"/>',
            f'<path d="M{left + scale * low:.1f} {y + 8.5}H{left + scale * high:.1f}" stroke="#777"/>',
            f'<text x="{left + scale * max(high, middle) + 6:.1f}" y="{y + 13}">{middle:.2f}</text>',
        ]
    legend = "time over that of the job in float32: longer is slower"
    parts.append(f'<text x="{left}" y="{height - 8}">{legend}</text></svg>')
    return "\n".join(parts) + "\n"


def main(source: Path, page: Path = PAGE, drawing: Path = PLOT) -> None:
    results = json.loads(source.read_text())
    before, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
    _, found, after = rest.partition(END)
    if not found:
        raise SystemExit(f"{page}: no place for the table; expected the lines {BEGIN} and {END}")
    page.write_text(f"{before}{BEGIN}\n{table(results)}\n{END}{after}", encoding="utf-8")
    drawing.write_text(plot(results), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "benchmarks" / "results" / "peers.json")

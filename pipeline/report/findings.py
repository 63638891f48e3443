"""What looks wrong, in words: what it means, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from pipeline.report.measures import NEAR, Measures
from transforms.output.manifest import Manifest

_FEW = 20  # rows from which shares of a sample mean something


class Finding(NamedTuple):
    """One warning.

    Attributes:
      what: is seen.
      means: what it means, and what to do.
    """

    what: str
    means: str


def findings(manifest: Manifest, measures: Measures, *, rows: int, cut: int) -> Iterator[Finding]:
    """Warnings, the gravest first; none where nothing is wrong.

    Args:
      rows: of the sample.
      cut: rows of the sample whose document was longer than what was embedded of it.
    """
    if not manifest.rows:
        yield Finding(
            "There are no rows.", "Every document is a dead letter, or the input held none: see the reasons."
        )
    yield from _broken(measures, rows)
    if rows >= _FEW:
        yield from _collapsed(measures, manifest.dim)
        if manifest.dtype != "ubinary":  # bits, which come as 1 and -1
            yield from _lengths(measures)
        if measures.twins > 0.1 * rows:
            yield Finding(
                f"{measures.twins:,} of {rows:,} sampled rows have a near-duplicate (cosine {NEAR} or more).",
                "Copies crowd out other hits in a search and leak from training into validation. Look at the "
                "list of pairs; where they are copies, remove them from the input.",
            )
    yield from _documents(manifest, rows, cut)


def _broken(measures: Measures, rows: int) -> Iterator[Finding]:
    if measures.broken:
        yield Finding(
            f"{measures.broken:,} of {rows:,} sampled vectors hold NaN or infinity.",
            "Nothing can be computed with them. The model overflows or divides by zero on these documents; "
            "`embedbeam verify` names them.",
        )
    if measures.zero:
        yield Finding(
            f"{measures.zero:,} of {rows:,} sampled vectors are all zeros.",
            "They have no direction, so no cosine. The model saw nothing in these documents: no word that it "
            "knows, or only padding. Look at their texts.",
        )
    if measures.constant:
        yield Finding(
            f"{measures.constant:,} of {rows:,} sampled vectors hold one number, again and again.",
            "The model does not tell these documents apart. Check which of its outputs is used "
            "(`embedbeam inspect` shows it; `--model-output` chooses).",
        )


def _collapsed(measures: Measures, dim: int) -> Iterator[Finding]:
    if len(measures.random) and (mean := float(measures.random.mean())) > 0.9:
        yield Finding(
            f"Two documents at random have a cosine of {mean:.2f} on average.",
            "The model is collapsed, or its vectors share one strong direction: everything looks alike. "
            "Check that documents differ, that the model's pooling and output are the right ones, and that "
            "it wants no prompt. If ranks alone matter it may still do; subtract the mean vector "
            "before clustering.",
        )
    if measures.directions and dim >= 16 and measures.directions <= max(1, dim // 100):
        some = "one direction" if measures.directions == 1 else f"{measures.directions} directions"
        yield Finding(
            f"Nine tenths of the variance lie in {some} of {dim}.",
            "The vectors hardly use their dimensions. The model may be collapsed, or some dimensions are far "
            "larger than the rest and drown them: look at the spread below.",
        )
    if not measures.directions and len(measures.norms) >= _FEW:
        yield Finding(
            "All sampled vectors are the same.",
            "The model gives one vector whatever it is given. Check its input and its output.",
        )


def _lengths(measures: Measures) -> Iterator[Finding]:
    norms = measures.norms[measures.norms > 0]
    if len(norms) and np.abs(norms - 1).max() > 0.02:
        low, high = float(norms.min()), float(norms.max())
        span = f"{low:.3g}" if np.isclose(low, high, rtol=1e-3) else f"{low:.3g} to {high:.3g}"
        yield Finding(
            f"Vectors are not of length 1, but {span}.",
            "A dot product is then no cosine, and long vectors win. Search and cluster by cosine, or divide "
            "each vector by its length first.",
        )


def _documents(manifest: Manifest, rows: int, cut: int) -> Iterator[Finding]:
    dead = sum(manifest.dead_letters.values())
    if dead > 0.01 * manifest.documents:
        share = dead / manifest.documents
        yield Finding(
            f"{dead:,} of {manifest.documents:,} documents ({share:.1%}) are dead letters.",
            "They have no vector. Their reasons and examples are below; mend the records and "
            "embed them alone.",
        )
    dropped = manifest.tokens_dropped or 0
    if dropped > 0.02 * (manifest.tokens or 0):
        share = dropped / max(1, manifest.tokens or 0)
        many = f", from {cut / rows:.0%} of the sampled rows" if rows and cut else ""
        yield Finding(
            f"{share:.0%} of all tokens were not embedded{many}.",
            "What lies past the model's window cannot be found. `--long-documents chunks` makes a row of "
            "each piece, `mean` averages them; or use a model with a longer window.",
        )
    waited = (manifest.model_waited or {}).get("share", 0)
    if waited > 0.25 and manifest.mini_batches >= 200:  # a short job waits at its start
        yield Finding(
            f"The model waited {waited:.0%} of its time.",
            "Reading or preparing the documents was slower than the model. `embedbeam tune` measures other "
            "mini-batches; see docs/performance.md.",
        )
    if manifest.mini_batches and manifest.retries > 0.05 * manifest.mini_batches:
        yield Finding(
            f"{manifest.retries:,} calls of the model were repeated.",
            "Mini-batches ran out of memory or failed, and were halved. Give a smaller `--batch-tokens`.",
        )

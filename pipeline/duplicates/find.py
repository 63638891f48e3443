"""Which documents of a plan are copies of which: one reading, the rest on disk."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from pipeline.duplicates import exact
from pipeline.duplicates.near import NearDuplicates
from pipeline.duplicates.read import Corpus, mapped
from transforms.blocks import FINGERPRINT, DocumentBlock
from transforms.elements import Shard
from transforms.errors import UsageError
from transforms.extras import check_extra
from transforms.output.buckets import Buckets
from transforms.output.fingerprints import halves
from transforms.steps.shards import ReadConfig

_CHUNK = 1 << 20


@dataclasses.dataclass(frozen=True, eq=False)
class Duplicates:
    """Of each ordinal (see Corpus) the document that is kept in its place; arrays that live on disk.

    Attributes:
      corpus: what was read.
      owners: int64 [n], ordinal of the document that is kept; its own, of one that is kept; -1 where there is
        no document. The owner comes first in the plan's order, and is its own owner.
      exact: int64 [n], the same of exact copies alone: a document is an exact copy of its owner where both
        agree.
      similarity: float32 [n], Jaccard similarity with the owner; 1 of exact copies and what is kept, 0 where
        there is no document.
    """

    corpus: Corpus
    owners: np.ndarray
    exact: np.ndarray
    similarity: np.ndarray


def check_near(near: float | None, modality: str) -> None:
    """Looks whether near duplicates can be found.

    Raises:
      UsageError: the threshold is none, documents are not text, or a package is missing.
    """
    if near is None:
        return
    if not 0 < near <= 1:
        raise UsageError(
            f"near_duplicates {near}: expected a Jaccard similarity above 0, and 1 at most, like 0.9",
            argument="near_duplicates",
        )
    if modality != "text":
        raise UsageError(
            f"near_duplicates {near}: compares the words of texts, and these documents are of `modality` "
            f"{modality}; leave it out: exact copies are found of all kinds",
            argument="near_duplicates",
        )
    check_extra("dedup", "rensa", "scipy", what="near_duplicates", argument="near_duplicates")


def find_duplicates(
    shards: Sequence[Shard],
    config: ReadConfig,
    folder: str,
    *,
    near: float | None = None,
    told: Callable[[str], None] = lambda text: None,
    hear: Callable[[np.ndarray, DocumentBlock], Any] = lambda ordinals, block: None,
) -> Duplicates:
    """Reads all documents once, in this process, and finds which are copies of which.

    Args:
      folder: for files that are needed while the result is; it exists and is the caller's to delete.
      near: least Jaccard similarity of near duplicates; None: exact copies alone.
      told: hears what is being done.
      hear: gets each block that is read, with its ordinals.

    Raises:
      UsageError: as of `check_near`.
      BadFileError: a file cannot be read, and those are not skipped.
    """
    check_near(near, config.modality.name)
    corpus = Corpus(shards, config)
    fingerprints = Buckets(folder, "fingerprints", 3)
    alike = None if near is None else NearDuplicates(folder, near)
    for ordinals, block in corpus.blocks(told):
        fingerprints.add(*halves(block.columns.column(FINGERPRINT)), ordinals)
        if alike is not None:
            alike.add(ordinals, block.payloads)
        hear(ordinals, block)
    told(f"looking for copies among {corpus.count:,} documents")
    copies = owners = exact.owners(fingerprints, corpus.count, f"{folder}/exact")
    similarity = mapped(f"{folder}/similarity", np.float32, corpus.count, fill=0)
    for at in range(0, corpus.count, _CHUNK):
        similarity[at : at + _CHUNK] = copies[at : at + _CHUNK] >= 0
    if alike is not None:
        owners = alike.owners(copies, similarity, told)
    return Duplicates(corpus, owners, copies, similarity)

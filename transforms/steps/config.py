"""How documents become vectors: what the steps from chunk to merge are told."""

from __future__ import annotations

import dataclasses

# Chunks sorted at once: enough that neighbours are alike, few enough that their payloads fit into memory.
WINDOW_CHUNKS = 4096


@dataclasses.dataclass(frozen=True, slots=True)
class EmbedConfig:
    """How documents become vectors.

    Attributes:
      mode: of long documents: mean (merge the chunks' vectors), truncate (first window only) or chunks (a
        row each).
      overlap: tokens that a chunk shares with the one before it.
      max_tokens: the window in tokens where the model does not state one; None: unknown.
      batch_tokens: token budget of a mini-batch; no chunk costs more.
      vector_dtype: as it is written; what a float16 cannot hold is a dead letter.
      keep_payload: whether the rows carry what was embedded.
      window_chunks: chunks that are sorted together.
      trace: whether each mini-batch is told to Beam's metrics.
    """

    mode: str = "mean"
    overlap: int = 32
    max_tokens: int | None = None
    batch_tokens: int = 1000
    vector_dtype: str = "float32"
    keep_payload: bool = False
    window_chunks: int = WINDOW_CHUNKS
    trace: bool = False

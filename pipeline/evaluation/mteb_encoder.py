"""Any model that `embed` takes, as the `mteb` package wants its models."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.options.options import Options
from pipeline.run.loading import load_encoder
from pipeline.run.screen import Screen
from pipeline.search.model import question_prompt
from transforms.encoder.card import read_card
from transforms.errors import UsageError
from transforms.extras import check_extra

if TYPE_CHECKING:
    from transforms.encoder.hub import HubEncoder


class MtebEncoder:
    """An encoder by the protocol of mteb 2 (`mteb.models.EncoderProtocol`).

    >>> import embedbeam, mteb                                            # doctest: +SKIP
    >>> model = embedbeam.MtebEncoder("minilm")                           # doctest: +SKIP
    >>> mteb.evaluate(model, mteb.get_tasks(["Banking77Classification"])) # doctest: +SKIP

    A text longer than the model's window is embedded by its beginning. Queries get the model's prompt `query`
    where `search` would give it to them; all else gets what documents get.
    """

    def __init__(
        self, model_name: str, revision: str | None = None, *, device: str | None = None, **options: Any
    ):
        """Loads the model.

        Args:
          model_name: a handle, as `embed` takes it.
          revision: of a hub's model; it may also stand in the handle.
          device: is there for the protocol; TensorFlow chooses.
          options: of `embed` that say what a model gets, as pooling or prompt.

        Raises:
          UsageError: the model cannot be used, or takes no text.
        """
        check_extra("mteb", "mteb", what="MtebEncoder")
        handle = f"{model_name}@{revision}" if revision else model_name
        self._name, self._device = model_name, device
        self._options = Options(input=("-",), output="-", model=handle, **options)
        self._documents = self._load(self._options)
        if self._documents.modality.name != "text":
            raise UsageError(f"model {model_name}: takes {self._documents.modality.name}; mteb gives it text")
        card = read_card(self._documents.folder, handle)
        asks = question_prompt(self._options.prompt, card)
        self._queries = (
            self._load(dataclasses.replace(self._options, prompt="query")) if asks else self._documents
        )

    @staticmethod
    def _load(options: Options) -> HubEncoder:
        screen = Screen(quiet=True)
        try:
            return load_encoder(options, screen)
        finally:
            screen.close()

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """Vectors of all texts of some mini-batches, float32 [n, dim].

        Args:
          inputs: mini-batches, each with a list `text`.
          prompt_type: query, document or None.

        Raises:
          UsageError: the model refuses a text.
        """
        query = getattr(prompt_type, "value", prompt_type) == "query"
        encoder = self._queries if query else self._documents
        found = [np.zeros((0, encoder.dim), np.float32)]
        for batch in inputs:
            prepared, refused = encoder.prepare(batch["text"])
            for place, reason in refused.items():
                said = ": ".join(filter(None, reason))
                raise UsageError(f"text {batch['text'][place][:40]!r}: {said}")
            found.append(encoder.embed(prepared))
        return np.concatenate(found)

    def similarity(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of all with all, a tensor [n, m]."""
        from mteb.similarity_functions import cos_sim

        return cos_sim(embeddings1, embeddings2)

    def similarity_pairwise(self, embeddings1: Any, embeddings2: Any) -> Any:
        """Cosines of each with its partner, a tensor [n]."""
        from mteb.similarity_functions import pairwise_cos_sim

        return pairwise_cos_sim(embeddings1, embeddings2)

    @property
    def mteb_model_meta(self) -> Any:
        """What mteb writes into its results; the revision is the model's digest."""
        from mteb.models.model_meta import ModelMeta

        known = {
            "name": f"embedbeam/{self._name.rstrip('/').rpartition('/')[2]}",
            "revision": self._documents.digest,
            "embed_dim": self._documents.dim,
            "max_tokens": self._documents.window,
            "modalities": ["text"],
            "similarity_fn_name": "cosine",
        }
        return ModelMeta.create_empty(overwrites=known)

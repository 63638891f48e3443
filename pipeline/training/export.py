"""Encoder and head as one SavedModel, from documents to classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.options.options import Options
from pipeline.run.loading import load_encoder
from pipeline.run.screen import Screen
from pipeline.training.head import read_card
from pipeline.training.run import check_new, new_folder
from transforms.encoder.outputs import pooled
from transforms.errors import UsageError
from transforms.output.reader import Output

if TYPE_CHECKING:
    from transforms.encoder.hub import HubEncoder


def exportable(output: Output, to: str | Path, screen: Screen) -> HubEncoder:
    """The job's encoder, if it makes one graph with a head.

    Raises:
      UsageError: `to` is taken; the model is not there, or takes token ids that are made outside of it.
      ModelError: it is another one than made the vectors.
    """
    job = output.job
    if job.get("preprocessor"):
        raise UsageError(
            "export: the job has a preprocessor, which is not part of its model; use `predict` instead"
        )
    check_new(Path(to).absolute())
    names = ("signature", "model_output", "modality", "prompt")
    options = {name: job[name] for name in names if job.get(name) is not None}
    encoder = load_encoder(
        Options(input="-", output="-", model=job["model"], **options), screen, job["model_digest"]
    )
    signatures = dict(getattr(encoder._keep, "signatures", None) or {})
    if encoder.signature not in signatures:
        raise UsageError(
            f"export: the model is used by its {encoder.signature}, not by a signature; use `predict`"
        )
    _, inputs = signatures[encoder.signature].structured_input_signature
    if encoder.modality.name == "text" and [spec.dtype.name for spec in inputs.values()] != ["string"]:
        raise UsageError("export: the model's tokenizer lies beside its graph; use `predict` on an output")
    return encoder


def export(encoder: HubEncoder, job: dict[str, Any], head: str | Path, to: str | Path) -> None:
    """Writes a SavedModel that takes what the encoder takes and gives `probabilities` and `label`.

    Args:
      encoder: one that is `exportable`.
      job: that made the vectors which the head was trained on.
    """
    import tensorflow as tf

    card = read_card(head)
    loaded: Any = encoder._keep
    function = loaded.signatures[encoder.signature]
    _, inputs = function.structured_input_signature
    prompt, cut = job.get("prompt") or "", card.dim

    class Classifier(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = loaded, tf.saved_model.load(str(head))
            self.classify = self.head.signatures["serving_default"]
            if hasattr(loaded, "max_tokens"):
                self.max_tokens = loaded.max_tokens

        @tf.function
        def serve(self, **documents: Any) -> dict[str, Any]:
            if prompt:
                documents = {name: tf.strings.join([prompt, text]) for name, text in documents.items()}
            result = function(**documents)
            vectors = tf.cast(
                pooled(tf, result[encoder.output], result.get("mask"), job["pooling"]), tf.float32
            )
            if cut < encoder.dim:
                vectors = vectors[:, :cut]
                if encoder.unit_length:
                    vectors = tf.math.l2_normalize(vectors, axis=1)
            if job["vector_dtype"] == "ubinary":  # the head has seen bits alone
                vectors = tf.where(vectors > 0, 1.0, -1.0)
            return dict(self.classify(embedding=vectors))

        @tf.function
        def count_tokens(self, **documents: Any) -> dict[str, Any]:
            return dict(self.encoder.signatures["count_tokens"](**documents))

    model = Classifier()
    signatures = {"serving_default": model.serve.get_concrete_function(**inputs)}
    if "count_tokens" in loaded.signatures:
        _, counted = loaded.signatures["count_tokens"].structured_input_signature
        signatures["count_tokens"] = model.count_tokens.get_concrete_function(**counted)
    with new_folder(to) as folder:
        tf.saved_model.save(model, str(folder), signatures=signatures)
        if encoder.window is not None:
            about = {"max_tokens": encoder.window, "dim": len(card.labels)}
            (folder / "assets.extra").mkdir(exist_ok=True)
            (folder / "assets.extra" / "embedbeam.json").write_text(
                json.dumps(about) + "\n", encoding="utf-8"
            )

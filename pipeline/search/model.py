"""The model that embedded an output, loaded once more to embed what is asked of it."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from pipeline.job import Job, job_of, pinned, with_choices
from pipeline.options.fields import stated
from pipeline.options.options import ModelOptions, Options, PayloadOptions
from pipeline.run.loading import load_encoder
from pipeline.run.screen import Screen
from transforms.encoder.card import Card, read_card
from transforms.encoder.model.handle import digest, pin, resolve
from transforms.encoder.robust import RobustEncoder
from transforms.errors import UsageError
from transforms.output.reader import Output
from transforms.storage.urls import redact

# What sentence-transformers, and the models made with it, call the prompts of the two sides.
_DOCUMENT = ("document", "passage", "corpus")
_QUERY = "query"


class Questions:
    """Makes vectors of questions as the job made them of its documents.

    Attributes:
      prompt: name or text of what comes before each question, where it is another than before documents.
    """

    def __init__(
        self, output: Output, screen: Screen, *, model: str | None = None, prompt: str | None = None
    ):
        """Loads the model.

        Args:
          model: its handle; None for the one that the job recorded.
          prompt: what comes before each question; None: see `question_prompt`.

        Raises:
          UsageError: it is not there, or is another model than the job's, or takes no text.
        """
        options = question_options(output, screen, model=model, prompt=prompt)
        self._model = load_encoder(options, screen, output.plan.head["model_digest"])
        self._encoder = RobustEncoder(self._model)
        self.prompt = options.prompt
        self._screen = screen

    def embed(self, question: str) -> np.ndarray:
        """float32 [1, dim].

        Raises:
          UsageError: it is empty or no text, or the model refuses it.
        """
        if not question.strip():
            raise UsageError("the question is empty: expected a few words")
        if any("\ud800" <= one <= "\udfff" for one in question):
            raise UsageError(f"question {question[:40]!r}: is not UTF-8")
        model = self._model
        if model.can_count and model.window is not None:
            tokens = int(model.count_tokens([question])[0])
            if tokens > model.window:
                said = f"the question has {tokens} tokens, and the model takes {model.window}"
                self._screen.say(f"{said}: it is asked with its beginning")
        vectors, refused, _ = self._encoder.embed(self._encoder.prepare([question]), [1])
        if refused:
            raise UsageError(f"question {question[:40]!r}: {': '.join(filter(None, refused[0]))}")
        return vectors


def question_options(
    output: Output, screen: Screen, *, model: str | None = None, prompt: str | None = None
) -> Options:
    """The options with which questions are embedded: the job's, save for what comes before a text.

    Raises:
      UsageError: the model is another than the job's, or takes no text.
    """
    kind = output.plan.head.get("modality") or "text"
    if kind != "text":
        raise UsageError(
            f"{output.folder.path}: its documents are {kind}, and a question is text; `embedbeam neighbors` "
            "finds what is like one of them"
        )
    job = job_of(output.plan, output.folder)
    names = [one.name for one in stated(ModelOptions, PayloadOptions)]
    values: dict[str, Any] = {name: getattr(job, name) for name in names}
    values["dim"] = None  # with_choices knows whether the job cut them
    options = Options(input=("-",), output=output.folder.path, **values)
    options = with_choices(dataclasses.replace(options, model=model or job.model), job)
    options = pinned(job, options)
    with screen.doing("fetching the model"):
        try:
            folders = [resolve(pin(handle)) for handle in (options.model, options.preprocessor) if handle]
        except UsageError as e:
            if model is not None:
                raise
            raise UsageError(f"{e}; where it lies now is told by --model", argument="model") from e
        found = digest(*folders)
    if found != job.model_digest:
        here = f"{redact(options.model)} (digest {found[:16]}…)"
        there = f"{job.model} (digest {job.model_digest[:16]}…)"
        raise UsageError(
            f"{here} is another model than that of {output.folder.path}, {there}: their vectors cannot be "
            "compared; give the same one with --model",
            argument="model",
        )
    return dataclasses.replace(options, **_asked(job, read_card(folders[0], options.model), prompt))


def _asked(job: Job, card: Card, prompt: str | None) -> dict[str, Any]:
    """Prompt and signature for questions. A signature may have a prompt in its graph; it is then its name."""
    in_graph = job.signature in card.prompts
    signature = None if in_graph else job.signature
    if prompt is not None:
        return {"prompt": prompt, "signature": signature}
    if question_prompt(job.signature if in_graph else job.prompt, card):
        return {"prompt": _QUERY, "signature": signature}
    return {"prompt": job.prompt, "signature": job.signature}


def question_prompt(documents: str | None, card: Card) -> bool:
    """Whether the model's prompt `query` comes before questions.

    It does where the model has one, and the documents were embedded with that of documents (or with none,
    where the model has none for documents): as sentence-transformers' encode_query and encode_document do.

    Args:
      documents: name or text of the documents' prompt; None for the model's own.

    >>> e5 = Card(prompts={"query": "query: ", "passage": "passage: "})
    >>> question_prompt("passage", e5), question_prompt(None, e5), question_prompt("query", e5)
    (True, False, False)
    """
    name = documents if documents is not None else card.default_prompt
    of_documents = [one for one in _DOCUMENT if one in card.prompts]
    texts = [card.prompts[one] for one in of_documents]
    return _QUERY in card.prompts and (name in (of_documents + texts) if of_documents else not name)

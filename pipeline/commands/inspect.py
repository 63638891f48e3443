"""`embedbeam inspect`: what a model is, as the job would use it."""

from __future__ import annotations

import argparse
import dataclasses

from pipeline.commands.results import add_json, print_json
from pipeline.commands.unknown import check_unknown
from pipeline.run.screen import Screen

HELP = "Show a model's signature, dim, dtype, digest, window and device, and embed a sample."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="TF Hub handle, or minilm")
    parser.add_argument("--signature", metavar="NAME", help="signature of the SavedModel")
    parser.add_argument("--model-output", metavar="NAME", help="which output, where there are several")
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Prints what the job needs to know of a model. Returns the exit code."""
    check_unknown(args.beam_args, args.parser, beams=False)
    with args.screen:
        card = describe(args.model, args.screen, signature=args.signature, model_output=args.model_output)
    print_json(card) if args.json else print_card(card)
    return 0


@dataclasses.dataclass(frozen=True)
class Card:
    """A model.

    Attributes:
      signature, input, output: what is called, with which argument, and which of its results is the vector;
        output is None where there is only one.
      max_tokens: the window; None if the model does not say.
      counts: tokens of the sample; None if the model cannot count.
      sample, vector: a text, and its vector float32 [dim].
    """

    model: str
    digest: str
    signature: str
    input: str
    output: str | None
    dim: int
    dtype: str
    max_tokens: int | None
    counts: int | None
    device: str
    load_seconds: float
    warm_up_seconds: float
    sample: str
    vector: list[float]


def describe(
    handle: str, screen: Screen, *, signature: str | None = None, model_output: str | None = None
) -> Card:
    """Loads a model and asks it.

    Raises:
      UsageError: the model cannot be used.
    """
    from pipeline.options.options import Options
    from pipeline.run.loading import load_encoder
    from transforms.encoder.model.handle import redact

    options = Options(input="-", output="-", model=handle, signature=signature, model_output=model_output)
    encoder = load_encoder(options, screen)
    sample = encoder.sample
    return Card(
        model=redact(handle),
        digest=encoder.digest,
        signature=encoder.signature,
        input=encoder.input_name,
        output=encoder.output,
        dim=encoder.dim,
        dtype=encoder.dtype,
        max_tokens=encoder.window,
        counts=int(encoder.count_tokens([sample])[0]) if encoder.can_count else None,
        device=encoder.device_name,
        load_seconds=round(encoder.load_seconds, 3),
        warm_up_seconds=round(encoder.warm_up_seconds, 3),
        sample=sample,
        vector=encoder.embed([sample])[0].tolist(),
    )


def print_card(card: Card) -> None:
    """The same in words."""
    window = "not stated by the model" if card.max_tokens is None else str(card.max_tokens)
    counts = "no: estimated" if card.counts is None else f"yes ({card.counts} in the sample)"
    numbers = ", ".join(f"{value:.4f}" for value in card.vector[:4])
    print(f"model       {card.model}")
    print(f"digest      {card.digest}")
    print(f"signature   {card.signature}({card.input}: string [n])")
    print(f"output      {card.output or 'the only one'}: {card.dtype} [n, {card.dim}]")
    print(f"dim         {card.dim}")
    print(f"dtype       {card.dtype}")
    print(f"max tokens  {window}")
    print(f"counts      {counts}")
    print(f"device      {card.device}")
    print(f"load        {card.load_seconds:.1f} s, warm-up {card.warm_up_seconds:.1f} s")
    print(f"sample      {card.sample!r} -> [{numbers}, ...]")

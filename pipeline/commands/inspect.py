"""`embedbeam inspect`: what a model is, as the job would use it."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pipeline.commands import Result, add_json
from pipeline.options.arguments import keywords
from pipeline.options.fields import Option, stated
from pipeline.options.options import ModelOptions, Options, PayloadOptions

if TYPE_CHECKING:
    from transforms.encoder.hub import HubEncoder

_OF_ITS_OWN = ("model", "signature", "model_output", "max_tokens")


def _how() -> Iterator[Option]:
    """The options that say what a model gets."""
    return (one for one in stated(ModelOptions, PayloadOptions) if one.name not in _OF_ITS_OWN)


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="TF Hub handle, hf://, kaggle://, or minilm")
    parser.add_argument("--signature", metavar="NAME", help="signature of the SavedModel")
    parser.add_argument("--model-output", metavar="NAME", help="which output, where there are several")
    for one in _how():
        parser.add_argument(one.flag, **keywords(one))
    parser.set_defaults(takes_beams=False)
    add_json(parser)


def run(args: argparse.Namespace) -> Result:
    """Show a model's signature, dim, dtype, digest, window and device, and embed a sample.

    Raises:
      UsageError: the model cannot be used.
    """
    from pipeline.run.loading import load_encoder
    from transforms.encoder.model.handle import redact, revision

    asked = {"model": args.model, "signature": args.signature, "model_output": args.model_output}
    asked |= {one.name: getattr(args, one.name) for one in _how() if hasattr(args, one.name)}
    encoder = load_encoder(Options(input="-", output="-", **asked), args.screen)
    found = {"revision": revision(encoder.handle), "folder": str(encoder.folder)}
    card = {"model": redact(args.model)} | found | card_of(encoder)
    return Result(card, card_lines(card))


def card_of(encoder: HubEncoder) -> dict[str, Any]:
    """A model in values.

    `output` is None where there is only one, `max_tokens` if the model does not say, and `counts`, the tokens
    of the sample, if it cannot count.
    """
    sample = encoder.sample
    prepared, _ = encoder.prepare([sample])
    return {
        "digest": encoder.digest,
        "signature": encoder.signature,
        "modality": encoder.modality.name,
        "input": encoder.input.described,
        "output": encoder.output,
        "dim": encoder.dim,
        "dtype": encoder.dtype,
        "max_tokens": encoder.window,
        "counts": int(encoder.count_tokens([sample])[0]) if encoder.can_count else None,
        "device": encoder.device_name,
        "load_seconds": round(encoder.load_seconds, 3),
        "warm_up_seconds": round(encoder.warm_up_seconds, 3),
        "sample": encoder.modality.shown(sample),
        "vector": encoder.embed(prepared)[0].tolist(),
    }


def card_lines(card: dict[str, Any]) -> Iterator[str]:
    """The same in words."""
    window, counts = card["max_tokens"], card["counts"]
    numbers = ", ".join(f"{value:.4f}" for value in card["vector"][:4])
    yield f"model       {card['model']}"
    if card["revision"]:
        yield f"revision    {card['revision']}"
    yield f"folder      {card['folder']}"
    yield f"digest      {card['digest']}"
    yield f"modality    {card['modality']}"
    yield f"signature   {card['signature']}({card['input']})"
    yield f"output      {card['output'] or 'the only one'}: {card['dtype']} [n, {card['dim']}]"
    yield f"dim         {card['dim']}"
    yield f"dtype       {card['dtype']}"
    yield f"max tokens  {'not stated by the model' if window is None else window}"
    yield f"counts      {'no: estimated' if counts is None else f'yes ({counts} in the sample)'}"
    yield f"device      {card['device']}"
    yield f"load        {card['load_seconds']:.1f} s, warm-up {card['warm_up_seconds']:.1f} s"
    yield f"sample      {card['sample']!r} -> [{numbers}, ...]"

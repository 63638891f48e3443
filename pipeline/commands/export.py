"""`embedbeam export`: a checkpoint as a SavedModel."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import Any

from pipeline.commands import Result, add_json


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT_DIR", help="config.json, the tokenizer's files and *.safetensors"
    )
    parser.add_argument("model", metavar="MODEL_DIR", help="where the SavedModel is written")
    parser.add_argument(
        "--precision",
        choices=("float32", "bfloat16", "float16"),
        default="float32",
        help="of the matrix products and their weights (float16 is for GPUs); embeddings are float32 always",
    )
    parser.set_defaults(takes_beams=False)
    add_json(parser)


def run(args: argparse.Namespace) -> Result:
    """Write a checkpoint folder as a TF Hub SavedModel."""
    with args.screen.doing("importing TensorFlow and writing the model"):
        from transforms.encoder.export import export
        from transforms.encoder.export.saved_model import read_description

        written = export(args.checkpoint, args.model, precision=args.precision)
        made = read_description(written)
    return Result({"model": str(written)} | made, [f"wrote {written}", *_lines(made)])


def _lines(made: dict[str, Any]) -> Iterator[str]:
    """What was made, in words."""
    places = {"graph": "in the graph", "host": "beside the graph (assets.extra/tokenizer.json)"}
    prompts, default = made["prompts"], made["default_prompt"]
    yield f"family      {made['family']}"
    yield f"dim         {made['dim']}"
    if made["matryoshka_dims"]:
        yield f"cuts to     {', '.join(map(str, made['matryoshka_dims']))}"
    yield f"max tokens  {made['max_tokens']:,}"
    yield f"pooling     {made['pooling']}{', then length 1' if made['normalize'] else ''}"
    yield f"precision   {made['precision']}"
    yield f"tokenizer   {places[made['tokenizer']]}"
    for name, text in prompts.items():
        yield f"prompt      {name}: {text!r}{' (the default)' if name == default else ''}"

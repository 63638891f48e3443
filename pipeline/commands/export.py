"""`embedbeam export`: a BERT checkpoint as a SavedModel."""

from __future__ import annotations

import argparse

from pipeline.commands import Result, add_json


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT_DIR", help="config.json, vocab.txt and *.safetensors"
    )
    parser.add_argument("model", metavar="MODEL_DIR", help="where the SavedModel is written")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="of the weights"
    )
    parser.set_defaults(takes_beams=False)
    add_json(parser)


def run(args: argparse.Namespace) -> Result:
    """Write a BERT checkpoint folder as a TF Hub SavedModel."""
    with args.screen.doing("importing TensorFlow and writing the model"):
        from transforms.encoder.export import export

        written = str(export(args.checkpoint, args.model, precision=args.precision))
    return Result({"model": written}, [f"wrote {written}"])

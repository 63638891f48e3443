"""`embedbeam export`: a BERT checkpoint as a SavedModel."""

from __future__ import annotations

import argparse

from pipeline.commands.results import add_json, print_json
from pipeline.commands.unknown import check_unknown

HELP = "Write a BERT checkpoint folder as a TF Hub SavedModel."


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "checkpoint", metavar="CHECKPOINT_DIR", help="config.json, vocab.txt and *.safetensors"
    )
    parser.add_argument("model", metavar="MODEL_DIR", help="where the SavedModel is written")
    parser.add_argument(
        "--precision", choices=("float32", "bfloat16"), default="float32", help="of the weights"
    )
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the SavedModel. Returns the exit code."""
    check_unknown(args.beam_args, args.parser, beams=False)
    with args.screen, args.screen.doing("importing TensorFlow and writing the model"):
        from transforms.encoder.export import export

        written = export(args.checkpoint, args.model, precision=args.precision)
    print_json({"model": str(written)}) if args.json else print(f"wrote {written}")
    return 0

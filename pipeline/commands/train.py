"""`embedbeam train`: classes from vectors."""

from __future__ import annotations

import argparse
from pathlib import Path

from pipeline.commands import Result, add_seed, add_source, open_source
from pipeline.options.values import decimal
from transforms.errors import UsageError
from transforms.storage.urls import is_local


def add(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument(
        "--label", metavar="FIELD", required=True, help="kept field whose values are the classes"
    )
    parser.add_argument("--to", metavar="DIR", required=True, help="where the head is written, a SavedModel")
    parser.add_argument(
        "--model", choices=("linear", "mlp"), default="linear", help="linear layer, or one hidden layer"
    )
    parser.add_argument("--optimizer", choices=("adam", "sgd"), default="adam", help="sgd has momentum 0.9")
    parser.add_argument(
        "--learning-rate", type=decimal, metavar="X", help="default: 0.001 for adam, 0.01 for sgd"
    )
    parser.add_argument(
        "--epochs", type=int, default=20, metavar="N", help="most; fewer where it stops to help"
    )
    parser.add_argument("--batch-size", type=int, default=256, metavar="N", help="rows of a mini-batch")
    parser.add_argument(
        "--validation", type=decimal, default=0.2, metavar="SHARE", help="of documents, not trained on"
    )
    add_seed(parser, "the split, the order and the weights")
    either = parser.add_mutually_exclusive_group()
    either.add_argument(
        "--balance", action="store_true", help="as many rows of each class in each mini-batch"
    )
    either.add_argument("--class-weights", action="store_true", help="count rows of rare classes for more")
    parser.add_argument(
        "--export", metavar="DIR", help="also write encoder and head as one SavedModel, which takes documents"
    )


def run(args: argparse.Namespace) -> Result:
    """Train a classifier on the vectors of an output folder.

    Raises:
      UsageError: the field tells no classes, or a folder is taken.
    """
    from transforms.extras import check_extra

    for name in ("epochs", "batch_size", "learning_rate"):
        if (value := getattr(args, name)) is not None and value <= 0:
            raise UsageError(f"{name} {value}: expected more than 0", argument=name)
    for name, path in (("to", args.to), ("export", args.export)):
        if path is not None and not is_local(path):
            reason = "expected a folder on this machine; copy it to the store when it is written"
            raise UsageError(f"{name} {path}: {reason}", argument=name)
    check_extra("train", "sklearn", "matplotlib", what="train")
    if args.export:
        _check_apart(args.to, args.export)
    with args.screen.doing("reading the output"):
        output = open_source(args)
        from pipeline.training.export import export, exportable
        from pipeline.training.report import words
        from pipeline.training.run import train
        from pipeline.training.train import Recipe
    encoder = exportable(output, args.export, args.screen) if args.export else None
    recipe = Recipe(
        args.model,
        args.optimizer,
        args.learning_rate,
        args.epochs,
        args.batch_size,
        args.seed,
        args.class_weights,
        args.balance,
    )
    with args.screen.telling("reading labels") as tell:
        record = train(output, args.label, args.to, recipe=recipe, validation=args.validation, tell=tell)
    lines = [*words(record), f"wrote {args.to}: the head, report/ and tensorboard/"]
    if encoder is not None:
        record["export"] = args.export
        with args.screen.doing("writing encoder and head as one model"):
            export(encoder, output.job, args.to, args.export)
        lines.append(f"wrote {args.export}: encoder and head as one model")
    return Result(record, lines)


def _check_apart(head: str, export: str) -> None:
    """Raises UsageError where a folder lies in the other, or is it."""
    one, other = Path(head).resolve(), Path(export).resolve()
    if one.is_relative_to(other) or other.is_relative_to(one):
        raise UsageError(
            f"export {export}: the head is written to {head}; choose a folder apart", argument="export"
        )

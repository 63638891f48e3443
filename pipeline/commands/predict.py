"""`embedbeam predict`: the classes of an output's rows."""

from __future__ import annotations

import argparse

from pipeline.commands import Result, add_source, open_source


def add(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument("--head", metavar="DIR", required=True, help="what `train` wrote")
    parser.add_argument(
        "--to", metavar="FILE", required=True, help="a Parquet file, a row for each of the output"
    )


def run(args: argparse.Namespace) -> Result:
    """Write the label and the probabilities of each row of an output folder.

    Raises:
      UsageError: the head was trained on another model's vectors, or the file is there.
    """
    done = [0, 0]
    with args.screen.doing(lambda: f"predicting: {done[0]:,} of {done[1]:,} rows"):
        output = open_source(args, to_folder=False)
        done[1] = output.count
        from pipeline.training.predict import predict

        record = predict(output, args.head, args.to, tell=lambda rows: done.__setitem__(0, rows))
    largest = sorted(record["labels"].items(), key=lambda one: -one[1])[:5]
    shown = ", ".join(f"{label} {count:,}" for label, count in largest)
    words = [f"wrote {args.to}: {record['rows']:,} rows; most often {shown}"]
    if record["without_label"]:
        words.append(f"{record['without_label']:,} rows hold NaN or infinity and have no label")
    return Result(record, words)

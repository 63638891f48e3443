"""`embedbeam tune`: the best mini-batches of a model on this machine, found by experiment."""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pipeline.commands import Result, add_json
from pipeline.options.arguments import add_arguments, given_options
from transforms.errors import UsageError
from transforms.storage.urls import redact

# Options of `embed` that change what goes through the model; the others have no say here.
_LEFT_OUT = ("keep_field", "keep_text", "batch_tokens")


def minutes(text: str) -> float:
    """A number of minutes, up to a day.

    >>> minutes("0.5")
    0.5
    """
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= 24 * 60:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of minutes, like 5 or 0.5")
    return value


def add(parser: argparse.ArgumentParser) -> None:
    from pipeline.options.fields import stated
    from pipeline.options.options import RECORDED, OutputOptions, RunOptions

    what = [one for group in RECORDED if group is not OutputOptions for one in stated(group)]
    words = [one for one in stated(RunOptions) if one.name in ("quiet", "verbose")]
    add_arguments(parser, [one for one in [*what, *words] if one.name not in _LEFT_OUT])
    parser.add_argument(
        "--minutes", type=minutes, default=5.0, metavar="N", help="how long it may take (default: 5)"
    )
    parser.add_argument(
        "--plot",
        metavar="PATH",
        help="write PATH.png and PATH.html (default: beside what is remembered, if matplotlib is installed)",
    )
    add_json(parser)


def run(args: argparse.Namespace) -> Result:
    """Find the best mini-batches of a model on this machine, and remember them for `embed`.

    Raises:
      UsageError: the model, the input or a plot's path cannot be used.
      JobFailed: not even one trial came to its end.
    """
    options = given_options(args, output="-")
    if args.plot is not None:
        from pipeline.tune.report import check_plots

        check_plots()
        if not Path(args.plot).absolute().parent.is_dir():
            raise UsageError(f"--plot {args.plot}: its folder is not there; make it first")
    with args.screen.doing("listing the input"):
        from pipeline.cluster.preflight import prepare
        from pipeline.plan.plan import find_files

        prepare(options)
        find_files(options, options.modality)  # a mistake in it is told before a model is loaded
    from pipeline.tune.tuning import Tuning, record_of

    outcome = Tuning(options, args.minutes, args.screen).run()
    record: dict[str, Any] = {"model": redact(options.model)} | record_of(outcome)
    record |= {"remembered": None, "plots": []}
    if outcome.best is not None:
        from pipeline.tune.remember import remember

        path = remember(outcome)
        record["remembered"] = str(path)
    if record["trials"] and (args.plot is not None or (outcome.best and find_spec("matplotlib"))):
        from pipeline.tune.report import write_plots

        stem = Path(args.plot) if args.plot is not None else path.with_suffix("")
        with args.screen.doing("drawing"):
            record["plots"] = write_plots(record, stem)
    from pipeline.tune.report import in_words

    return Result(record, [] if options.quiet else in_words(record))

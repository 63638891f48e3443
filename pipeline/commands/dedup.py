"""`embedbeam dedup`: which documents of an input are said twice; nothing is embedded."""

from __future__ import annotations

import argparse

from pipeline.commands import Result, add_json
from pipeline.options.arguments import add_arguments, given_options

_TAKEN = {"input", "input_format", "text_field", "id_field", "limit", "modality", "skip_bad_files"}
_TAKEN |= {"verbose"}


def add(parser: argparse.ArgumentParser) -> None:
    from pipeline.options.fields import stated
    from pipeline.options.options import GROUPS
    from pipeline.options.values import similarity

    add_arguments(parser, [one for one in stated(*GROUPS) if one.name in _TAKEN])
    parser.add_argument(
        "--near-duplicates",
        metavar="SIMILARITY",
        type=similarity,
        help="texts, too, whose Jaccard similarity with a text before them is as large, like 0.9",
    )
    parser.add_argument(
        "--to", metavar="FILE", help="a Parquet file with a row for each document that another one says, too"
    )
    parser.add_argument("--quiet", action="store_true", help="do not say what is being done")
    add_json(parser)


def run(args: argparse.Namespace) -> Result:
    """Report the documents that are said twice, exactly or nearly; no model is needed.

    Raises:
      UsageError: a mistake in the options or in the input, or there is no document.
      BadFileError: a file cannot be read, and `--skip-bad-files` was not given.
    """
    from pipeline.cluster.preflight import prepare
    from pipeline.commands import open_stores
    from pipeline.duplicates.find import check_near
    from pipeline.duplicates.report import report, words
    from pipeline.plan.fits import check_files, guessed
    from pipeline.plan.kept import take_sample
    from pipeline.plan.plan import make_plan, read_options
    from pipeline.target import check
    from transforms import modality
    from transforms.errors import UsageError
    from transforms.output.pending import temporary_folder
    from transforms.steps.shards import ReadConfig

    options = given_options(args, output="-", near_duplicates=None, beam_args=args.beam_args)
    if options.modality == "tabular":
        raise UsageError(
            "modality tabular: which columns are a document is the model's to say, and there is none here",
            argument="modality",
        )
    check_near(args.near_duplicates, options.modality or "text")
    if args.to is not None:
        check(args.to, folder=False)
        open_stores(args.to, args.beam_args, "--to")
    with args.screen.doing("listing the input"):
        prepare(options)
        of = modality.get(options.modality or guessed(options))
        check_near(args.near_duplicates, of.name)
        plan = make_plan(options, of)
        check_files(plan, of)
    with args.screen.doing("sampling the input"):
        take_sample(plan, options, of)
    config = ReadConfig(read_options(options, of), skip_bad_files=options.skip_bad_files, modality=of)
    with temporary_folder("dedup") as folder, args.screen.telling("reading") as told:
        made = report(plan.shards, config, folder, near=args.near_duplicates, to=args.to, told=told)
    return Result(made, words(made))

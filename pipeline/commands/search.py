"""`embedbeam search`: the rows nearest to a question."""

from __future__ import annotations

import argparse

from pipeline.commands import Result, add_source, open_source
from transforms.errors import UsageError


def number(text: str) -> int:
    """A number from 1.

    >>> number("10")
    10
    """
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number from 1")
    return int(text)


def add_search(parser: argparse.ArgumentParser) -> None:
    """The arguments that `search` and `neighbors` share."""
    parser.add_argument("--k", type=number, default=10, metavar="N", help="how many rows (default: 10)")
    parser.add_argument(
        "--filter", metavar="CONDITION", help="only rows that fulfil it, in SQL: \"module = 'json'\""
    )
    parser.add_argument(
        "--metric", choices=("cosine", "dot"), default="cosine", help="what is near (default: cosine)"
    )


def add(parser: argparse.ArgumentParser) -> None:
    add_source(parser)
    parser.add_argument(
        "question", nargs="?", metavar="QUESTION", help="what is asked; left out, a prompt asks"
    )
    add_search(parser)
    parser.add_argument("--model", metavar="HANDLE", help="where the job's model lies now")
    parser.add_argument("--prompt", metavar="NAME|TEXT", help="what comes before each question")


def run(args: argparse.Namespace) -> Result:
    """Find the rows nearest to a question; without one, ask for questions.

    Raises:
      UsageError: another model, fewer rows than are asked for, a filter that is none.
    """
    from pipeline.search.exact import nearest
    from pipeline.search.hits import found, in_words
    from pipeline.search.model import Questions
    from pipeline.search.where import condition

    output = open_source(args)
    if args.question is not None and not args.question.strip():
        raise UsageError("the question is empty: expected a few words")
    keep = condition(output, args.filter) if args.filter is not None else None
    asked = Questions(output, args.screen, model=args.model, prompt=args.prompt)
    best = nearest(output, asked.embed(args.question), args.k, metric=args.metric, keep=keep)
    [hits] = found(output, best)
    return Result({"question": args.question, "results": hits}, in_words(hits))

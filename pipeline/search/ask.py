"""Questions one after the other: the model is loaded once, and a prompt asks, or standard input tells."""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.run.screen import Screen, print_json
from pipeline.run.signals import on_signals
from pipeline.search.exact import nearest
from pipeline.search.hits import check_k, found, in_words
from pipeline.search.index import index_of
from pipeline.search.where import condition
from transforms.errors import UsageError
from transforms.output.reader import Output


class Finder:
    """Finds what the arguments of `add_search` ask for: by index, or exactly.

    Attributes:
      output: that is searched.
    """

    def __init__(self, output: Output, args: argparse.Namespace):
        """Opens what is needed.

        Raises:
          UsageError: a condition that is none, or an extra that is not installed.
        """
        check_k(output, args.k)
        self.output, self._k, self._metric = output, args.k, args.metric
        self._keep = None if args.filter is None else condition(output, args.filter)
        self._index = index_of(output, args)

    def find(
        self, vectors: np.ndarray, screen: Screen, *, besides: np.ndarray | None = None
    ) -> list[list[dict[str, Any]]]:
        """Of each question its rows, nearest first, as `found`.

        Args:
          vectors: float32 [n, dim].
          besides: places of rows that are left out.
        """
        k = self._k + (0 if besides is None else len(besides))
        done = 0

        def seen(rows: int) -> None:
            nonlocal done
            done += rows

        with screen.doing(lambda: f"searching: {done:,} of {self.output.count:,} rows"):
            if self._index is not None:
                best = self._index.nearest(vectors, k)
            else:
                best = nearest(self.output, vectors, k, metric=self._metric, keep=self._keep, seen=seen)
            if besides is not None:
                best = best.without(besides, self._k)
            return found(self.output, best)


def ask(finder: Finder, questions: Any, args: argparse.Namespace) -> None:
    """Answers questions until there are no more; a mistake in one is told, in JSON as well."""
    if sys.stdin.isatty():
        on_signals(args.screen.fd, lambda tell: tell("\n"))  # a way to leave: nobody need be told
    for question in _typed() if sys.stdin.isatty() else _piped(args.screen):
        try:
            with contextlib.closing(Screen(quiet=args.quiet)) as screen, screen:
                [hits] = finder.find(questions.embed(question), screen)
        except UsageError as e:
            args.screen.tell(f"error: {e}")
            if args.json:
                print_json({"question": question, "error": str(e)})
            continue
        show(question, hits, as_json=args.json)


def show(question: str, hits: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    """Prints the answer to one of several questions."""
    if as_json:
        print_json({"question": question, "results": hits})
        return
    if not sys.stdin.isatty():
        print(f"{question}")
    for line in in_words(hits):
        print(line)
    print(flush=True)


def _typed() -> Iterator[str]:
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # arrow keys and earlier questions
    print("Ask, a question a line; Ctrl-D ends.", file=sys.stderr)
    while True:
        try:
            question = input("> ")
        except EOFError:
            print(file=sys.stderr)
            return
        if question.strip():
            yield question.strip()


def _piped(screen: Screen) -> Iterator[str]:
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="surrogateescape")  # what is no text is refused by itself
    for number, line in enumerate(sys.stdin, 1):
        if line.strip():
            yield line.strip()
        else:
            screen.say(f"line {number} of standard input is empty: no question")

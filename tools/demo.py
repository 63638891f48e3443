"""The demo: embeds the docstrings of Python's standard library, and searches them."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import io
import json
import os
import pkgutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

_QUESTIONS = ("How do I read a compressed file?", "Wait until several threads have reached the same point")
# Importing these opens a window or a browser, prints a poem, or starts what a demo should not.
_LEFT_OUT = {"antigravity", "this", "idlelib", "turtledemo", "test", "lib2to3"}
_TESTS = {"test", "tests", "idle_test"}


def standard_modules() -> Iterator[ModuleType]:
    """All public modules of the standard library that can be imported here, in order of name."""
    folder = os.path.dirname(os.__file__)
    for top in sorted(sys.stdlib_module_names - _LEFT_OUT):
        paths = [] if top.startswith("_") else getattr(_import(top), "__path__", [])
        paths = [path for path in paths if path.startswith(folder)]
        below = [found.name for found in pkgutil.walk_packages(paths, f"{top}.", onerror=lambda _: None)]
        for name in (top, *sorted(below)):
            public = not any(part.startswith("_") or part in _TESTS for part in name.split("."))
            if public and (module := _import(name)) is not None:
                yield module


def _import(name: str) -> ModuleType | None:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module(name)
        except (Exception, SystemExit):  # of another platform, or without its C library here
            return None


def docstrings() -> Iterator[dict[str, str]]:
    """Documents: each public module, class and function with a docstring, once, under its qualified name."""
    warnings.simplefilter("ignore")  # reading some old modules' attributes warns
    seen: set[str] = set()
    for name, value, module in _objects():
        # The object's own docstring: inspect.getdoc would repeat an inherited one.
        doc = getattr(value, "__doc__", None)
        text = inspect.cleandoc(doc) if isinstance(doc, str) else ""
        if text.strip() and name not in seen:
            seen.add(name)
            yield {"id": name, "text": text.encode("utf-8", "replace").decode(), "module": module}


def _objects() -> Iterator[tuple[str, Any, str]]:
    """Qualified name, object and module of all modules, and of their classes, functions and methods."""
    known: set[int] = set()
    for module in standard_modules():
        home = module.__name__
        yield home, module, home
        for name, value in sorted(vars(module).items()):
            if name.startswith("_") or id(value) in known or not _belongs(name, value, module):
                continue
            known.add(id(value))
            if inspect.isroutine(value):
                yield f"{home}.{name}", value, home
            elif inspect.isclass(value):
                yield f"{home}.{value.__qualname__}", value, home
                for method, function in sorted(vars(value).items()):
                    function = getattr(function, "__func__", function)
                    if not method.startswith("_") and inspect.isroutine(function):
                        yield f"{home}.{value.__qualname__}.{method}", function, home


def _belongs(name: str, value: Any, module: ModuleType) -> bool:
    """Whether users find the object in this module: it is defined here, or only behind an underscore."""
    home = getattr(value, "__module__", None)
    exported = name in getattr(module, "__all__", ())
    return home == module.__name__ or (exported and (home is None or home.startswith("_")))


def write_documents(path: Path) -> int:
    """Writes the docstrings as JSON lines, once; returns how many documents there are."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_suffix(".tmp")
        with open(temporary, "w", encoding="utf-8") as f:
            for document in docstrings():
                f.write(json.dumps(document, ensure_ascii=False) + "\n")
        os.replace(temporary, path)
    with open(path, "rb") as f:
        return sum(1 for _ in f)


def show(output: Path) -> None:
    """Prints five rows, and for each question the five nearest docstrings by cosine."""
    from pipeline.embed import embed
    from pipeline.search.exact import nearest
    from pipeline.search.hits import found
    from transforms.output.reader import open_output

    print("\nfive rows:")
    columns = ["doc_id", "module", "tokens", "embedding"]
    for row in next(open_output(str(output)).rows(columns, block_rows=5)).to_pylist():
        numbers = ", ".join(f"{value:.3f}" for value in row["embedding"][:4])
        print(f"  {row['doc_id']:<45} module={row['module']:<15} tokens={row['tokens']:<4} [{numbers}, ...]")
    folder = output.parent / "questions"  # kept, so that a second demo needs no model
    folder.mkdir(exist_ok=True)
    source = folder / "questions.jsonl"
    if not source.exists():
        lines = [json.dumps({"id": str(i), "text": question}) for i, question in enumerate(_QUESTIONS)]
        source.write_text("\n".join(lines) + "\n")
    embed(input=source, output=folder / "vectors", id_field="id", quiet=True)
    [(_, asked)] = open_output(str(folder / "vectors")).vectors()  # in input order, of one shard
    searched = open_output(str(output))
    for question, hits in zip(_QUESTIONS, found(searched, nearest(searched, asked, 5)), strict=True):
        print(f"\nnearest to {question!r}:")
        for hit in hits:
            print(f"  {hit['score']:.3f}  {hit['doc_id']}")


def main(folder: str) -> int:
    from pipeline.cli import main as embedbeam

    source, output = Path(folder) / "docs.jsonl", Path(folder) / "vectors"
    count = write_documents(source)
    print(f"{count:,} docstrings of Python {sys.version.split()[0]} in {source}", flush=True)
    fields = ["--id-field", "id", "--keep-field", "module", "--keep-text"]
    code = embedbeam(["embed", "--input", str(source), "--output", str(output), *fields])
    if code == 0:
        show(output)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

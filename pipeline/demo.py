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
_LEFT_OUT = {"antigravity", "this", "idlelib", "turtledemo", "test", "lib2to3", "__main__"}


def standard_modules() -> Iterator[ModuleType]:
    """All public modules of the standard library that can be imported here, in order of name."""
    folder = os.path.dirname(os.__file__)
    names = {name for name in sys.stdlib_module_names if not name.startswith("_")} - _LEFT_OUT
    for top in sorted(names):
        module = _import(top)
        if module is None:
            continue
        yield module
        paths = [p for p in getattr(module, "__path__", []) if p.startswith(folder)]
        for found in sorted(_below(paths, top)):
            parts = found.split(".")
            if not any(part.startswith("_") or part in {"test", "tests", "idle_test"} for part in parts):
                below = _import(found)
                if below is not None:
                    yield below


def _below(paths: list[str], top: str) -> list[str]:
    return [found.name for found in pkgutil.walk_packages(paths, f"{top}.", onerror=lambda _: None)]


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
    known: set[int] = set()
    for module in standard_modules():
        yield from _entry(module.__name__, module, module.__name__, seen)
        for name, value in sorted(vars(module).items()):
            if name.startswith("_") or id(value) in known or not _belongs(name, value, module):
                continue
            known.add(id(value))
            if inspect.isclass(value):
                yield from _entry(f"{module.__name__}.{value.__qualname__}", value, module.__name__, seen)
                for method, function in sorted(vars(value).items()):
                    if not method.startswith("_"):
                        function = getattr(function, "__func__", function)
                        if inspect.isroutine(function):
                            qualified = f"{module.__name__}.{value.__qualname__}.{method}"
                            yield from _entry(qualified, function, module.__name__, seen)
            elif inspect.isroutine(value):
                yield from _entry(f"{module.__name__}.{name}", value, module.__name__, seen)


def _belongs(name: str, value: Any, module: ModuleType) -> bool:
    """Whether users find the object in this module: it is defined here, or only behind an underscore."""
    home = getattr(value, "__module__", None)
    exported = name in getattr(module, "__all__", ())
    return home == module.__name__ or (exported and (home is None or home.startswith("_")))


def _entry(name: str, value: Any, module: str, seen: set[str]) -> Iterator[dict[str, str]]:
    # The object's own docstring: inspect.getdoc would repeat an inherited one.
    text = inspect.cleandoc(doc) if isinstance(doc := getattr(value, "__doc__", None), str) else ""
    if text.strip() and name not in seen:
        seen.add(name)
        yield {"id": name, "text": text.encode("utf-8", "replace").decode(), "module": module}


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
    import numpy as np

    from transforms.output.reader import open_output

    made = open_output(str(output))
    print("\nfive rows:")
    first = next(made.rows(["doc_id", "module", "tokens", "embedding"], block_rows=5))
    for row in first.to_pylist():
        numbers = ", ".join(f"{value:.3f}" for value in row["embedding"][:4])
        print(f"  {row['doc_id']:<45} module={row['module']:<15} tokens={row['tokens']:<4} [{numbers}, ...]")
    questions = _embed_questions(output.parent / "questions")
    found: list[list[tuple[float, str]]] = [[] for _ in questions]
    for names, vectors in made.vectors():
        unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
        for nearest, question in zip(found, questions, strict=True):
            cosine = unit @ (question / np.linalg.norm(question))
            nearest += [(float(cosine[i]), names[i]) for i in np.argsort(-cosine)[:5]]
    for question, nearest in zip(_QUESTIONS, found, strict=True):
        print(f"\nnearest to {question!r}:")
        for cosine, name in sorted(nearest, reverse=True)[:5]:
            print(f"  {cosine:.3f}  {name}")


def _embed_questions(folder: Path) -> list[Any]:
    """The questions' vectors, in order; kept, so that a second demo needs no model."""
    from pipeline.embed import embed
    from transforms.output.reader import open_output

    source = folder / "questions.jsonl"
    lines = [json.dumps({"id": str(i), "text": question}) for i, question in enumerate(_QUESTIONS)]
    folder.mkdir(parents=True, exist_ok=True)
    if not source.exists():
        source.write_text("\n".join(lines) + "\n")
    embed(input=str(source), output=str(folder / "vectors"), id_field="id", quiet=True)
    blocks = open_output(str(folder / "vectors")).vectors()
    by_id = {name: vector for names, vectors in blocks for name, vector in zip(names, vectors, strict=True)}
    return [by_id[str(i)] for i in range(len(_QUESTIONS))]


def main(folder: str) -> int:
    from pipeline.cli import main as embedbeam

    source, output = Path(folder) / "docs.jsonl", Path(folder) / "vectors"
    print(
        f"{write_documents(source):,} docstrings of Python {sys.version.split()[0]} in {source}", flush=True
    )
    arguments = [
        "--input",
        str(source),
        "--output",
        str(output),
        "--id-field",
        "id",
        "--keep-field",
        "module",
    ]
    code = embedbeam(["embed", *arguments])
    if code == 0:
        show(output)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))

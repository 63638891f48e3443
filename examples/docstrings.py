"""Which module does a docstring belong to? Embeds the standard library's, and trains a head on them.

    python examples/docstrings.py FOLDER [--documents N]

Documents are the docstrings of this Python; the class of each is its top-level module, of which the twelve
with the most are kept. Written: FOLDER/vectors, FOLDER/head (with its report), FOLDER/model (text -> class).
"""

import argparse
import collections
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from pipeline.cli import main as embedbeam
from tools.demo import write_documents

MODULES = 12


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--documents", type=int, help="most documents, from all over the library (all)")
    given = parser.parse_args()
    source = given.folder / "docs.jsonl"
    write_labelled(source, given.documents)
    vectors, head, model = (str(given.folder / name) for name in ("vectors", "head", "model"))
    fields = ["--id-field", "id", "--keep-field", "top"]
    return (
        embedbeam(["embed", "--input", str(source), "--output", vectors, *fields])
        or embedbeam(["train", vectors, "--label", "top", "--class-weights", "--to", head, "--export", model])
        or embedbeam(["predict", vectors, "--head", head, "--to", str(given.folder / "predictions.parquet")])
    )


def write_labelled(path: Path, most: int | None) -> None:
    """Docstrings of the modules that have the most of them, with the field `top`."""
    everything = path.with_name("all.jsonl")
    write_documents(everything)
    documents = [json.loads(line) for line in everything.read_text(encoding="utf-8").splitlines()]
    for one in documents:
        one["top"] = one["module"].partition(".")[0]
    large = collections.Counter(one["top"] for one in documents).most_common(MODULES)
    kept = [one for one in documents if one["top"] in dict(large)]
    step = max(1.0, len(kept) / (most or len(kept)))
    kept = [kept[int(i * step)] for i in range(int(len(kept) / step))]
    path.write_text("".join(json.dumps(one) + "\n" for one in kept), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())

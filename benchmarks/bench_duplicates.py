"""Near duplicates: what is missed, and what a million texts cost.

    python -m benchmarks.bench_duplicates quality            5,000 texts against all pairs by plain Python
    python -m benchmarks.bench_duplicates run [DOCUMENTS]    the command, 1,000,000 by default

Texts are docstrings of the standard library. Edits are planted: words changed, left out, put in and swapped,
from one to a third of them, and case, spaces and punctuation.
"""

from __future__ import annotations

import collections
import itertools
import json
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import ROOT, WORK, corpus, texts_of

TEXTS, PLANTED = 5_000, 2_000
THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95)
_CODE = """
import resource, sys
from benchmarks.common import peak_kib
from pipeline.cli import main
code = main(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print(int(peak_kib()), used.ru_utime + used.ru_stime)
sys.exit(code)
"""


def edited(text: str, chance: random.Random, words: Sequence[str], share: float) -> str:
    """A text with so many of its words changed, left out, put in or swapped, at least one."""
    made = re.split(r"(\s+)", text)  # words at even places, spaces between
    for _ in range(max(1, round(share * len(made) / 2))):
        at = 2 * chance.randrange((len(made) + 1) // 2)
        how = chance.randrange(4)
        if how == 0:
            made[at] = chance.choice(words)
        elif how == 1 and len(made) > 2:
            del made[max(0, at - 1) : max(0, at - 1) + 2]
        elif how == 2:
            made[at:at] = [chance.choice(words), " "]
        elif at + 2 < len(made):
            made[at], made[at + 2] = made[at + 2], made[at]
    return "".join(made)


def reformatted(text: str, chance: random.Random) -> str:
    """The same words in another case, with other spaces and punctuation."""
    made = chance.choice([str.upper, str.lower, str.title])(text)
    return re.sub(r"\s+", lambda _: chance.choice(["  ", "\n", " - "]), made)


def planted(chance: random.Random) -> list[str]:
    """5,000 texts, of which two in five are others with edits; in random order."""
    texts = texts_of(corpus(TEXTS - PLANTED))
    words = sorted({word for text in texts for word in text.split()})
    long = [text for text in texts if len(text.split()) >= 10]
    for number in range(PLANTED):
        text = chance.choice(long)
        share = chance.choice([0.01, 0.03, 0.1, 0.3])
        texts.append(edited(text, chance, words, share) if number % 5 else reformatted(text, chance))
    chance.shuffle(texts)
    return texts


def bag(text: str) -> collections.Counter[tuple[str, ...]]:
    """Shingles of a text by plain Python, apart from the code that is measured."""
    words: list[str] = []
    for piece in unicodedata.normalize("NFKC", text).casefold().split():
        apart = (f" {c} " if unicodedata.category(c)[0] == "S" else c for c in piece)
        clean = (c if unicodedata.category(c)[0] in "LMNS" else " " for c in "".join(apart))
        spoken = any(unicodedata.category(c)[0] in "LN" for c in piece)
        words += ("".join(clean) if spoken else piece).split()
    size = min(3, len(words))
    return collections.Counter(tuple(words[i : i + size]) for i in range(len(words) - size + 1) if size)


def all_pairs(texts: Sequence[str], least: float) -> Iterator[tuple[int, int, float]]:
    """Each pair that is so much alike, the earlier text second; all with a shingle in common are compared."""
    bags = [bag(text) for text in texts]
    where: dict[tuple[str, ...], list[int]] = collections.defaultdict(list)
    for number, one in enumerate(bags):
        for other in sorted({other for shingle in one for other in where[shingle]}):
            shared = (one & bags[other]).total()
            alike = shared / (one.total() + bags[other].total() - shared)
            if alike >= least:
                yield number, other, alike
        for shingle in one:
            where[shingle].append(number)


def owners_of(texts: Sequence[str], threshold: float) -> np.ndarray:
    """What the command finds: owners by ordinal."""
    from pipeline.duplicates.find import find_duplicates
    from pipeline.options.options import Options
    from pipeline.plan.plan import make_plan, read_options
    from transforms.modality.text import TEXT
    from transforms.steps.shards import ReadConfig

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.jsonl"
        source.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        options = Options(input=source, output="-")
        config = ReadConfig(read_options(options, TEXT))
        found = find_duplicates(make_plan(options).shards, config, folder, near=threshold)
        return np.array(found.owners)


def quality() -> None:
    texts = planted(random.Random(0))
    pairs: dict[int, list[tuple[int, float]]] = collections.defaultdict(list)
    for one, other, alike in all_pairs(texts, min(THRESHOLDS)):
        pairs[one].append((other, alike))
    print(f"{len(texts):,} texts, {PLANTED:,} of them edits of others; truth by all pairs")
    first: dict[str, int] = {}  # exact copies are left out of the count: they are found without any of this
    for number, text in enumerate(texts):
        first.setdefault(text, number)
    for threshold in THRESHOLDS:
        truth = np.arange(len(texts))
        for one, others in sorted(pairs.items()):
            like = (other for other, alike in others if alike >= threshold and truth[other] == other)
            truth[one] = next(like, one)
        found = owners_of(texts, threshold)
        ours = {
            one: int(owner) for one, owner in enumerate(found) if owner != one and first[texts[one]] == one
        }
        right = sum(dict(pairs[one]).get(owner, 0) >= threshold for one, owner in ours.items())
        wanted = {one for one in first.values() if truth[one] != one}
        print(
            f"{threshold}: {len(wanted):,} near duplicates; precision {right / len(ours):.4f}, recall "
            f"{len(wanted & ours.keys()) / len(wanted):.4f}, the same owner {np.mean(truth == found):.4f}",
            flush=True,
        )


def run() -> None:
    """The command on texts of about 75 words: a fifth of them exact copies, a fifth near ones."""
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1_000_000
    source = WORK / "duplicates" / f"{count}.jsonl"
    if not source.exists():
        source.parent.mkdir(parents=True, exist_ok=True)
        unfinished = source.with_suffix(".tmp")
        with open(unfinished, "w", encoding="utf-8") as file:
            for record in itertools.islice(_records(random.Random(0)), count):
                file.write(json.dumps(record) + "\n")
        unfinished.rename(source)
    print(f"{count:,} texts, {source.stat().st_size / 1e6:,.0f} MB")
    for flags in ([], ["--near-duplicates=0.9"]):
        to = source.with_suffix(".parquet")
        command = ["dedup", f"--input={source}", "--id-field=id", f"--to={to}", "--json", *flags]
        begun = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-c", _CODE, *command], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True
        )
        seconds = time.perf_counter() - begun
        found, used = done.stdout.splitlines()
        peak, of_cpu = map(float, used.split())
        told = json.loads(found)
        counts = {name: told[name] for name in ("documents", "kept", "exact", "near")}
        print(
            f"{' '.join(flags) or 'exact'}: {seconds:,.0f} s, of CPU {of_cpu:,.0f} s; {peak / 1024:,.0f} MiB"
        )
        print(f"  {counts}", flush=True)
    shutil.rmtree(source.parent)


def _records(chance: random.Random) -> Iterator[dict[str, str]]:
    pieces = [text.split() for text in texts_of(corpus(6_000))]
    words = sorted({word for piece in pieces for word in piece})
    made: list[str] = []
    for number in itertools.count():
        kind = chance.random()
        if kind < 0.6 or not made:
            text = " ".join(
                itertools.chain.from_iterable(_window(chance.choice(pieces), chance) for _ in range(4))
            )
            made.append(text)
        else:
            text = chance.choice(made)
            text = text if kind < 0.8 else edited(text, chance, words, 0.01)
        yield {"id": f"d{number}", "text": text}


def _window(words: Sequence[str], chance: random.Random) -> Sequence[str]:
    at = chance.randrange(max(1, len(words) - 25))
    return words[at : at + 25]


if __name__ == "__main__":
    {"quality": quality, "run": run}[sys.argv[1]]()

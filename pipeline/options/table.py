"""docs/options.md, made from the options: `python -m pipeline.options.table docs/options.md`."""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.options.fields import Stated, stated
from pipeline.options.options import GROUPS, RECORDED

_HEAD = """# Options and commands

Made by `make docs` from the fields of `Options`; edit `pipeline/options/options.py`, not this page.

On the command line an option is `--text-field`, in Python `embedbeam.embed(text_field=...)`. Options of
Beam and of its runners (`--flink_master`, `--project`, ...) are handed on as they are; in Python in
`beam_args`.

An option with a dot in the last column belongs to the job: the plan records it, and the same command again
with another value is told so. Of these, what was left open is chosen once and kept. All others may change
from run to run.
"""
_TAIL = """
## Commands

| command | what it does | `--json` prints |
| --- | --- | --- |
| `embedbeam embed` | embeds, or goes on where it was | the manifest, and the run in numbers as `run` |
| `embedbeam embed --dry-run` | shows what would be read | files, shards, bytes, estimates |
| `embedbeam status OUTPUT` | tells how far a job is | state, shards, bytes, rate, time left |
| `embedbeam verify OUTPUT` | reads an output back | its `defects`, and what it holds if there are none |
| `embedbeam finish OUTPUT` | balances a job that nobody waited for | the manifest |
| `embedbeam inspect MODEL` | shows a model, and embeds a sample | signature, dim, digest, vector, ... |
| `embedbeam export CHECKPOINT_DIR MODEL_DIR` | writes a BERT checkpoint as a SavedModel | where it is |
| `embedbeam completion SHELL` | prints a completion script for bash, zsh or tcsh | |

With `--json` standard output holds one JSON object on one line and nothing else. After a mistake or a
failure it is `{"error": ..., "argument": ..., "exit_code": ...}`; the same line of text is on standard
error as always. `argument` is the option that is wrong, as in Python, or null.

Completion needs one more package: `pip install 'embedbeam[completion]'`, then for bash

    embedbeam completion bash > ~/.local/share/bash-completion/completions/embedbeam

## What is said meanwhile

On a terminal one live line says what is being done, from the first second: listing the input, asking the
cluster, importing TensorFlow, loading the model; then documents and tokens through the model, the share
of the input that is done, and the time left. Both come from bytes read and tokens embedded, so a job of
one shard has them too. Elsewhere a step of the start that takes more than a quarter of a minute is named
once, and progress is a line every half minute. All of it goes to standard error; `--quiet` leaves it
out.

Exit codes: 0 done and balanced; 1 the job ran and something is wrong; 2 a mistake found before any document
was read; 130 and 143 stopped by Ctrl-C or SIGTERM.
"""


def page() -> str:
    """The page's text."""
    recorded = {one.name for one in stated(*RECORDED)}
    options = [one for one in stated(*GROUPS) if one.about.typed]
    text = _HEAD
    for cls in GROUPS:
        text += f"\n## {cls.title.capitalize()}\n\n| option | what it is | default | job's |\n"
        text += "| --- | --- | --- | --- |\n"
        of_group = (one for one in options if one.group == cls.title)
        for one in sorted(of_group, key=lambda one: not one.required):
            text += (
                f"| {_name(one)} | {one.about.help} | {_default(one)} | {'•' * (one.name in recorded)} |\n"
            )
    return text + _TAIL


def _name(one: Stated) -> str:
    value = "\\|".join(one.choices) or one.about.metavar or ""
    return f"`{one.flag}`" + (f" {value}" if value else "")


def _default(one: Stated) -> str:
    if one.required:
        return "must be given"
    if one.about.unset is not None:
        return one.about.unset
    return "" if one.default in (None, (), False) else f"`{one.default}`"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")

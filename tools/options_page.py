"""Makes the tables of docs/options.md from the options of `embed`: `make docs` runs it.

What the page says beside them stands in the page.
"""

from __future__ import annotations

import sys
from pathlib import Path

from pipeline.options.fields import Option, stated
from pipeline.options.options import GROUPS, RECORDED

_FIRST, _NEXT = f"\n## {GROUPS[0].title.capitalize()}\n", "\n## Commands\n"


def page(text: str) -> str:
    """The page's text with the tables of now."""
    before, _, rest = text.partition(_FIRST)
    return before + tables() + _NEXT + rest.partition(_NEXT)[2]


def tables() -> str:
    """A table a group."""
    recorded = {one.name for one in stated(*RECORDED)}
    options = [one for one in stated(*GROUPS) if one.typed]
    text = ""
    for cls in GROUPS:
        text += f"\n## {cls.title.capitalize()}\n\n| option | what it is | default | job's |\n"
        text += "| --- | --- | --- | --- |\n"
        of_group = (one for one in options if one.group == cls.title)
        for one in sorted(of_group, key=lambda one: not one.required):
            text += f"| {_name(one)} | {one.help} | {_default(one)} | {'•' * (one.name in recorded)} |\n"
    return text


def _name(one: Option) -> str:
    value = "\\|".join(one.choices or (one.metavar or "").split("|"))
    return f"`{one.flag}`" + (f" {value}" if value else "")


def _default(one: Option) -> str:
    if one.required:
        return "must be given"
    if one.unset is not None:
        return one.unset
    return "" if one.default in (None, (), False) else f"`{one.default}`"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(page(path.read_text(encoding="utf-8")), encoding="utf-8")

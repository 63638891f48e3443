"""Conditions on rows in SQL, as DuckDB understands them."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.search.exact import Part
from transforms.errors import UsageError
from transforms.extras import check_extra
from transforms.output.reader import Output

if TYPE_CHECKING:
    import pyarrow as pa

_PLACE = f"place_{secrets.token_hex(8)}"  # of a row in its block; no condition can name it


def condition(output: Output, text: str) -> Callable[[Part], np.ndarray]:
    """Which rows of a part fulfil a condition, bool [rows]: what follows WHERE in SQL.

    Only the columns that it names are read.

    Raises:
      UsageError: it is no condition on the output's columns, or DuckDB is not installed.
    """
    check_extra("search", "duckdb", what="--filter", argument="filter")
    import duckdb
    import pyarrow as pa

    schema = output.arrow
    allowed = [name for name in schema.names if name not in output.vector_columns]
    config: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "autoinstall_known_extensions": False,
        "python_enable_replacements": False,  # no variable of ours is a table
    }
    database = duckdb.connect(":memory:", config=config)

    def of(rows: pa.Table) -> np.ndarray:
        numbered = rows.append_column(_PLACE, pa.array(np.arange(len(rows))))
        try:  # a cursor each: threads ask at once
            found = database.cursor().from_arrow(numbered).filter(text).project(_PLACE).fetchnumpy()
        except duckdb.Error as e:
            reason = str(e).splitlines()[0].split("Error: ", 1)[-1].rstrip(" !")
            raise UsageError(
                f'--filter {text!r}: {reason}; expected a condition in SQL, like "tokens > 100", on '
                f"{', '.join(allowed)}",
                argument="filter",
            ) from e
        mask = np.zeros(len(rows), bool)
        mask[np.asarray(found[_PLACE])] = True
        return mask

    of(pa.table({name: pa.nulls(1, schema.field(name).type) for name in allowed}))
    columns = _columns(database, text, allowed)

    def keep(part: Part) -> np.ndarray:
        blocks = (of(pa.Table.from_batches([block])) for block in output.part(part.name, columns))
        return np.concatenate([*blocks, np.zeros(0, bool)])

    return keep


def _columns(database: Any, text: str, allowed: list[str]) -> list[str]:
    """The columns that a condition needs: those it names, and where it counts them all of them, in order.

    Raises:
      UsageError: it has COLUMNS, or a number above the last column's: either may mean the rows' places.
    """
    [(tree,)] = database.execute("SELECT json_serialize_sql(?)", [f"SELECT 1 WHERE {text}"]).fetchall()
    parsed = json.loads(tree)
    named: set[str] = set()
    everything = parsed["error"]
    for node in _nodes(parsed):
        kind = node.get("class")
        if kind == "COLUMN_REF":  # SQL takes names in any case
            named.update(name.lower() for name in node["column_names"])
        elif kind == "STAR" and node["columns"]:
            raise UsageError(f"--filter {text!r}: has COLUMNS; name each column", argument="filter")
        elif kind == "POSITIONAL_REFERENCE" and node["index"] > len(allowed):
            raise UsageError(
                f"--filter {text!r}: #{node['index']} of {len(allowed)} columns; name the column",
                argument="filter",
            )
        everything = everything or kind in ("STAR", "POSITIONAL_REFERENCE")
    return allowed if everything else [name for name in allowed if name.lower() in named] or ["doc_id"]


def _nodes(tree: Any) -> Iterator[dict[str, Any]]:
    """All objects in a tree of JSON."""
    if isinstance(tree, dict):
        yield tree
    for one in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else ():
        yield from _nodes(one)

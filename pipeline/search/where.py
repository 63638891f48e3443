"""Conditions on rows in SQL, as DuckDB understands them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.search.exact import Part
from transforms.errors import UsageError
from transforms.extras import check_extra
from transforms.output.reader import Output

if TYPE_CHECKING:
    import pyarrow as pa

_PLACE = "__place__"  # of a row in its block


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
    database = duckdb.connect(":memory:", config={"threads": 1, "autoinstall_known_extensions": False})

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
    named = {name.lower() for name in _columns(database, text)}
    columns = [name for name in allowed if name.lower() in named] or ["doc_id"]

    def keep(part: Part) -> np.ndarray:
        blocks = (of(pa.Table.from_batches([block])) for block in output.part(part.name, columns))
        return np.concatenate([*blocks, np.zeros(0, bool)])

    return keep


def _columns(database: Any, text: str) -> set[str]:
    """The columns that a condition names; SQL takes them in any case."""
    found: set[str] = set()

    def look(node: Any) -> None:
        if isinstance(node, dict):
            found.update(node.get("column_names", ()) if node.get("class") == "COLUMN_REF" else ())
            node = list(node.values())
        if isinstance(node, list):
            for one in node:
                look(one)

    [(tree,)] = database.execute("SELECT json_serialize_sql(?)", [f"SELECT 1 WHERE {text}"]).fetchall()
    look(json.loads(tree))
    return found

"""What changed between two outputs: documents joined by id and fingerprint in DuckDB, which spills."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from pipeline.job import job_of, vector_choices
from pipeline.target import begin
from transforms.output.pending import committing, temporary_folder
from transforms.output.reader import Output

if TYPE_CHECKING:
    import pyarrow as pa

# In the order in which they are told.
STATES = ("same", "moved", "changed", "added", "removed", "died", "revived")
_MEMORY = "512MB"  # of the joins; what is more goes to a temporary folder
_BLOCK = 65_536
_COLUMNS = ["doc_id", "source", "position", "fingerprint"]
_DEAD_BLOCK = 10_000

# A row of OLD and one of NEW are a pair by the first of these that they share; of several with the same the
# first of each, the second of each and so on.
_PAIRS = (
    ("same", "doc_id, fingerprint, source"),
    ("moved", "doc_id, fingerprint"),
    ("changed", "doc_id"),
    ("moved", "fingerprint"),  # under another id
)
_PAIR = """
    INSERT INTO pairs
    WITH o AS (SELECT *, row_number() OVER (PARTITION BY {keys} ORDER BY place) AS n
               FROM old ANTI JOIN pairs ON pairs.old = old.place),
         n AS (SELECT *, row_number() OVER (PARTITION BY {keys} ORDER BY place) AS n
               FROM new ANTI JOIN pairs ON pairs.new = new.place)
    SELECT '{state}', o.place, n.place FROM o JOIN n USING ({keys}, n)
"""
# What is left: gone or new, unless the other output has it among its dead letters.
_LEFT = """
    INSERT INTO pairs
    SELECT CASE WHEN doc_id IN (SELECT doc_id FROM new_dead) THEN 'died' ELSE 'removed' END, place, NULL
    FROM old ANTI JOIN pairs ON pairs.old = old.place;
    INSERT INTO pairs
    SELECT CASE WHEN doc_id IN (SELECT doc_id FROM old_dead) THEN 'revived' ELSE 'added' END, NULL, place
    FROM new ANTI JOIN pairs ON pairs.new = new.place
"""
_ROWS = """
    SELECT state, coalesce(new.doc_id, old.doc_id) AS doc_id, old.doc_id AS old_doc_id,
        old.source AS old_source, old.position AS old_position, new.source, new.position, reason
    FROM pairs LEFT JOIN old ON pairs.old = old.place LEFT JOIN new ON pairs.new = new.place
        LEFT JOIN (SELECT doc_id, min(reason) AS reason FROM new_dead GROUP BY doc_id) AS dead
        ON state = 'died' AND dead.doc_id = old.doc_id
    WHERE state <> 'same' ORDER BY pairs.new NULLS LAST, pairs.old
"""
_DEAD = """
    SELECT (SELECT count(*) FROM old_dead), (SELECT count(*) FROM new_dead), (SELECT count(DISTINCT doc_id)
    FROM old_dead WHERE doc_id IN (SELECT doc_id FROM new_dead))
"""


def differing(old: Output, new: Output) -> list[str]:
    """The choices that make other vectors of the same payloads in NEW: no fingerprint is in both then.

    Raises:
      UsageError: a plan is of another version.
    """
    one, other = (vector_choices(job_of(output.plan, output.folder)) for output in (old, new))
    return sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))


def diff(old: Output, new: Output, to: str | None, told: Callable[[str], None]) -> dict[str, Any]:
    """Counts of documents by state; of chunk outputs a document counts once.

    same: the same id, fingerprint and file. moved: the same fingerprint in another file, or under another
    id. changed: the same id, another fingerprint. added, removed: in one of them alone. died: a dead letter
    in NEW. revived: a dead letter in OLD.

    Args:
      to: path or URL of a Parquet file that gets a row for each document which is not the same: state,
        doc_id, old_doc_id, old_source, old_position, source, position, reason (of those that died).
      told: hears what is being done.

    Raises:
      UsageError: a plan is of another version.
    """
    import duckdb

    differs = differing(old, new)
    with temporary_folder("diff") as folder:
        config: dict[str, Any] = {
            "memory_limit": _MEMORY,
            "temp_directory": folder,
            "autoinstall_known_extensions": False,
        }
        with contextlib.closing(duckdb.connect(f"{folder}/rows.duckdb", config=config)) as database:
            for name, output in (("old", old), ("new", new)):
                told(f"reading {name.upper()}")
                load(database, name, _documents(output), _dead(output))
            told("comparing")
            pair(database)
            if to is not None:
                told(f"writing {to}")
                _write(database.sql(_ROWS).to_arrow_reader(_BLOCK), to)
            counts = dict(database.execute("SELECT state, count(*) FROM pairs GROUP BY state").fetchall())
            [dead] = database.execute(_DEAD).fetchall()
    return {
        "old": old.folder.path,
        "new": new.folder.path,
        "differing": differs,
        **{state: counts.get(state, 0) for state in STATES},
        "dead_letters": dict(zip(("old", "new", "both"), dead, strict=True)),
        **({} if to is None else {"rows": to}),
    }


def load(database: Any, name: str, documents: Iterable[pa.Table], dead: Iterable[pa.Table]) -> None:
    """Makes the tables `name` and `name`_dead, with the columns that the blocks have in this order."""
    columns = "place BIGINT, doc_id VARCHAR, source VARCHAR, position BIGINT, fingerprint BLOB"
    database.execute(f"CREATE TABLE {name} ({columns})")
    database.execute(f"CREATE TABLE {name}_dead (doc_id VARCHAR, reason VARCHAR)")
    for table, blocks in ((name, documents), (f"{name}_dead", dead)):
        for block in blocks:
            database.from_arrow(block).insert_into(table)


def pair(database: Any) -> None:
    """Makes the table `pairs` of what `load` made: state, place in old and in new, null where none is."""
    database.execute("CREATE TABLE pairs (state VARCHAR, old BIGINT, new BIGINT)")
    for state, keys in _PAIRS:
        database.execute(_PAIR.format(state=state, keys=keys))
    database.execute(_LEFT)


def _documents(output: Output) -> Iterator[pa.Table]:
    """The rows, of a document the first, numbered by their places."""
    import pyarrow as pa
    import pyarrow.compute as pc

    place, columns = 0, [*_COLUMNS, *(["chunk"] if output.schema.chunks else [])]
    for block in output.rows(columns, block_rows=_BLOCK):
        numbers = pa.array(range(place, place + len(block)), pa.int64())
        place += len(block)
        rows = pa.table([numbers, *block.columns[: len(_COLUMNS)]], ["place", *_COLUMNS])
        rows = rows.set_column(4, "fingerprint", rows["fingerprint"].cast(pa.binary()))
        yield rows.filter(pc.equal(block.column("chunk"), 0)) if output.schema.chunks else rows


def _dead(output: Output) -> Iterator[pa.Table]:
    import pyarrow as pa

    some: list[tuple[str, str]] = []
    for letter in output.dead_letters():
        some.append((letter.doc_id, letter.kind))
        if len(some) == _DEAD_BLOCK:
            yield pa.table(list(zip(*some, strict=True)), ["doc_id", "reason"])
            some = []
    if some:
        yield pa.table([list(column) for column in zip(*some, strict=True)], ["doc_id", "reason"])


def _write(rows: pa.RecordBatchReader, to: str) -> None:
    import pyarrow.parquet as pq

    with committing(begin(to)) as file, pq.ParquetWriter(file, rows.schema, compression="zstd") as writer:
        for block in rows:
            writer.write_batch(block)

"""The documents of an earlier output for another model: from its rows, or from the inputs of its plan."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from pipeline.job import job_of
from pipeline.options.options import OF_DOCUMENTS, OF_ROWS, Options
from pipeline.plan.plan import Plan, Planned
from pipeline.run.changes import compared, slices_of
from pipeline.run.output import same_folder
from transforms.errors import UsageError
from transforms.output import ledger
from transforms.output.column_types import BYTES_TYPES, FLOAT_TYPES, TEXT_TYPES
from transforms.output.reader import Output
from transforms.storage.files import full_path, is_local

_REREAD = "--from-inputs reads the inputs again"


def migration(
    old: Output,
    given: Mapping[str, Any],
    *,
    from_inputs: bool,
    take_changes: bool,
    say: Callable[[str], None],
) -> tuple[Options, Planned]:
    """How the documents of an output are embedded by another model.

    Args:
      given: options of `embed` that the command gives, with model and output.
      from_inputs: the inputs are read even where the output has the texts.
      take_changes: inputs that are not what they were are read as they are now.
      say: hears what a user should know.

    Returns:
      The options, and what looks at a new job's plan.

    Raises:
      UsageError: the output is the earlier one, or that has the texts and has not finished.
    """
    job, path = job_of(old.plan, old.folder), old.folder.path
    if same_folder(path, given["output"]):
        raise UsageError(
            f"output {given['output']}: is OLD itself; expected another folder", argument="output"
        )
    values = {name: getattr(job, name) for name in (*OF_DOCUMENTS, *OF_ROWS)}
    if given.get("output_format", job.output_format) != "tfrecord":
        values["tfrecord_gzip"] = False
    if not job.keep_text or job.long_documents == "chunks" or from_inputs:
        if job.keep_text and not from_inputs:
            say(f"the rows of {path} are chunks, which do not hold whole texts: its inputs are read")
        return Options(**values | dict(given)), _of_inputs(old, values["limit"], given, take_changes, say)
    if not old.complete:
        raise UsageError(
            f"{path}: the job has not finished, so some texts are not there: run it again, or {_REREAD}"
        )
    if not old.count:
        raise UsageError(f"{path}: no rows: all documents are dead letters, or there were none; {_REREAD}")
    ending = "parquet" if old.format == "parquet" else "tfrecord*"
    here = full_path(path)
    if is_local(here) and os.path.islink(here):  # which may point elsewhere by the time that a run goes on
        here = os.path.join(os.path.dirname(here), os.readlink(here))
    values |= {"input": (f"{here}/part-*.{ending}",), "input_format": "rows"}
    values |= {"text_field": "text", "id_field": "doc_id", "limit": None}
    return Options(**values | dict(given)), _of_rows(old, say)


def _of_rows(old: Output, say: Callable[[str], None]) -> Planned:
    def planned(plan: Plan) -> tuple[tuple[str, str], ...]:
        path, there = old.folder.path, old.folder.names()
        for receipt in old.receipts:
            if receipt.part is not None and there.get(receipt.part) != receipt.part_bytes:
                size = there.get(receipt.part)
                what = "is missing" if size is None else f"has {size:,} bytes"
                raise UsageError(
                    f"{path}: {receipt.part} {what}, expected {receipt.part_bytes:,}: it is damaged, "
                    f"`embedbeam verify {path}` tells all of it; put the file back, or {_REREAD}"
                )
        if dead := sum(ledger.by_reason(old.receipts).values()):
            say(f"{dead:,} documents are dead letters of {path} and have no row there; {_REREAD}")
        return tuple((name, _stored(kind, old.format)) for name, kind in old.schema.kept)

    return planned


def _stored(kind: str, format: str) -> str:
    """The type of a kept field's values as they lie in part files.

    >>> _stored("bool", "tfrecord"), _stored("date32[day]", "tfrecord"), _stored("date32[day]", "parquet")
    ('int64', 'string', 'date32[day]')
    """
    if kind in TEXT_TYPES:
        return "string"
    if format == "parquet" or kind in (*BYTES_TYPES, *FLOAT_TYPES) or kind.startswith("fixed_size_binary"):
        return kind
    if kind == "bool":
        return "int64"
    return kind if re.fullmatch(r"u?int(8|16|32)|int64", kind) else "string"


def _of_inputs(
    old: Output, limit: int | None, given: Mapping[str, Any], take_changes: bool, say: Callable[[str], None]
) -> Planned:
    def planned(plan: Plan) -> tuple[tuple[str, str], ...] | None:
        new, changed, gone = compared(slices_of(old.plan.shards), slices_of(plan.shards))
        if given.get("limit", limit) != limit:  # the plans are of more and of fewer files
            new = gone = []
        elif limit is not None:
            new = []
        kinds = (("have changed", changed), ("are gone", gone), ("came", new))
        found = [f"{len(paths):,} {what}, e.g. {paths[0]}" for what, paths in kinds if paths]
        if found and not take_changes:
            raise UsageError(
                f"{old.folder.path}: its input files are not what they were: {'; '.join(found)}. Put them "
                "back, or --take-changes reads the input as it is now"
            )
        for one in found:
            say(f"input files since {old.folder.path} was made: {one}")
        if dead := sum(ledger.by_reason(old.receipts).values()):
            say(f"{dead:,} documents that are dead letters of {old.folder.path} are read again")
        if old.forgotten:
            say(
                f"{len(old.forgotten):,} documents were forgotten in {old.folder.path}; where inputs have "
                "them yet they are embedded again; take them out there, or forget them in the new output"
            )
        # Of the same files all types are known; of tables it is seen whether the model takes them.
        kept = tuple((name, kind) for name, kind in old.job["kept"])
        return None if found or old.job.get("modality") == "tabular" else kept

    return planned

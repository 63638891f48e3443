"""From slices of input files to documents and dead letters; quick to import, without Beam and pyarrow."""

from transforms.formats.parquet import row_groups
from transforms.formats.records import ReadOptions
from transforms.formats.registry import EXTENSIONS, FORMATS, SPLITTABLE, can_split, format_of
from transforms.formats.slices import check_slice, read_slice

__all__ = [
    "EXTENSIONS",
    "FORMATS",
    "SPLITTABLE",
    "ReadOptions",
    "can_split",
    "check_slice",
    "format_of",
    "read_slice",
    "row_groups",
]

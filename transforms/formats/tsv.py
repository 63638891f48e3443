"""TSV with a header."""

from __future__ import annotations

from transforms.formats.base import Format
from transforms.formats.delimited import check_delimited, read_delimited

FORMAT = Format("tsv", (".tsv", ".tab"), read_delimited, check_delimited)

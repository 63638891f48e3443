"""CSV with a header."""

from __future__ import annotations

from transforms.formats.base import Format
from transforms.formats.delimited import check_delimited, read_delimited

FORMAT = Format("csv", (".csv",), read_delimited, check_delimited)

"""Errors that a user reads: one line with what was found, what was expected and what to do."""

from __future__ import annotations

import base64
import json

GO_ON = "what is committed is kept: mend this, then run the same command again"
_MARK = "embedbeam-error:"


class EmbedbeamError(Exception):
    """Base of all errors whose text is meant for a person; printed as one line, without a traceback."""

    @property
    def _tagged_with_step(self) -> bool:
        """What Beam asks of an error that leaves a step. True: it shall pass as it is.

        Beam would make another error of it, with the step's name in the message. Most runners hand on nothing
        but a traceback's text: there the error's kind and words go along as a note, which `read_note` reads.
        """
        if not getattr(self, "__notes__", None):
            fields = json.dumps({"kind": type(self).__name__, "text": str(self)})
            self.add_note(_MARK + base64.b64encode(fields.encode()).decode())
        return True


def read_note(traceback: str) -> dict[str, str] | None:
    """The kind and text of the last error of ours in a traceback; None if it has none.

    >>> read_note("ValueError: no") is None
    True
    """
    _, found, note = traceback.rpartition(_MARK)
    try:
        return json.loads(base64.b64decode(note.split()[0], validate=True)) if found else None
    except (ValueError, IndexError):  # cut off, or somebody else's
        return None


class UsageError(EmbedbeamError):
    """The user's mistake, found before any document is read (exit code 2).

    Attributes:
      argument: name of the option that is wrong, as in Python (`text_field`); None where it is none.
    """

    def __init__(self, message: str, *, argument: str | None = None):
        super().__init__(message)
        self.argument = argument


class JobFailed(EmbedbeamError):
    """The job ran, and something is wrong with its input or its output (exit code 1)."""


class ModelError(EmbedbeamError):
    """The model cannot be loaded, has the wrong shape, or fails on every document alike."""


class StoreError(EmbedbeamError):
    """A store or a file system fails for the moment: no fault of the file, and another try may mend it."""


class BadFileError(EmbedbeamError):
    """A file that cannot be read as a whole.

    Attributes:
      source: the file, relative to the input root.
      position: byte offset, row or record at which reading stopped; None if it never started.
      reason: what was found, what was expected, what to do; without the file.
      kind: damaged (truncated, corrupt), gone, changed (since the plan), unreadable, or column (one that was
        asked for is missing or of another type: the user's mistake).
      column: the column's name, where the kind is column.
    """

    def __init__(
        self,
        source: str,
        position: int | None,
        reason: str,
        *,
        kind: str = "damaged",
        column: str | None = None,
    ):
        super().__init__(source, position, reason)
        self.source, self.position, self.reason = source, position, reason
        self.kind, self.column = kind, column

    def __str__(self) -> str:
        at = "" if self.position is None else f" at {self.position}"
        return f"{self.source}{at}: {self.reason}"


class LedgerError(EmbedbeamError):
    """Documents read and documents committed do not balance: a bug, or output changed by somebody else."""


class DamagedPart(LedgerError):
    """A file of an output that cannot be read.

    Attributes:
      name: the file, relative to the output folder.
      reason: the first line of what its reader says.
      output: path of the folder.
    """

    def __init__(self, name: str, reason: str, output: str):
        super().__init__(name, reason, output)
        self.name, self.reason, self.output = name, reason, output

    def __str__(self) -> str:
        verify = f"`embedbeam verify {self.output}` tells more"
        return f"{self.name}: cannot be read: {self.reason}; {verify}"

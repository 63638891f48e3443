"""Errors that a user reads: one line with what was found, what was expected and what to do."""


class EmbedbeamError(Exception):
    """Base of all errors whose text is meant for a person; printed as one line, without a traceback."""


class UsageError(EmbedbeamError):
    """The user's mistake, found before any document is read (exit code 2)."""


class ModelError(EmbedbeamError):
    """The model cannot be loaded, has the wrong shape, or fails on every document alike."""


class BadFileError(EmbedbeamError):
    """A file that cannot be read as a whole: truncated, corrupt, vanished or changed since the plan.

    Attributes:
      source: the file, relative to the input root.
      position: byte offset, row or record at which reading stopped; None if it never started.
    """

    def __init__(self, source: str, position: int | None, reason: str):
        super().__init__(source, position, reason)
        self.source = source
        self.position = position
        self.reason = reason

    def __str__(self) -> str:
        at = "" if self.position is None else f" at {self.position}"
        return f"{self.source}{at}: {self.reason}"


class LedgerError(EmbedbeamError):
    """Documents read and documents committed do not balance: a bug, or output changed by somebody else."""

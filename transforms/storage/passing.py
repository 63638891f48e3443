"""Errors of a file system that say nothing about the file: another try may mend them."""

from __future__ import annotations

import errno

from transforms.errors import StoreError

_NAMES = """
EAGAIN EBUSY ECOMM ECONNABORTED ECONNREFUSED ECONNRESET EHOSTDOWN EHOSTUNREACH EINTR EIO EMFILE ENETDOWN
ENETRESET ENETUNREACH ENFILE ENOBUFS ENOLINK ENOMEM ENOTCONN EPIPE EPROTO EREMOTEIO ESHUTDOWN ESTALE ETIMEDOUT
"""
_PASSING = {getattr(errno, name, None) for name in _NAMES.split()} - {None}


def is_passing(error: OSError) -> bool:
    """Whether another try may mend it: a stale mount, too many open files, a connection that broke."""
    return isinstance(error, ConnectionError | TimeoutError) or error.errno in _PASSING


def raise_passing(error: OSError, source: str) -> None:
    """Raises StoreError for an error that says nothing about the file `source`."""
    if is_passing(error):
        reason = error.strerror or " ".join(str(error).split())
        raise StoreError(
            f"{source}: cannot be read for the moment: {reason}; what is committed is kept: mend this, then "
            "run the same command again"
        ) from error

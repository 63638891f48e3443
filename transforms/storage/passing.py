"""Errors of a file system that say nothing about the file: another try may mend them."""

from __future__ import annotations

import errno

_NAMES = """
EAGAIN EBUSY ECOMM ECONNABORTED ECONNREFUSED ECONNRESET EHOSTDOWN EHOSTUNREACH EINTR EIO EMFILE ENETDOWN
ENETRESET ENETUNREACH ENFILE ENOBUFS ENOLINK ENOMEM ENOTCONN EPIPE EPROTO EREMOTEIO ESHUTDOWN ESTALE ETIMEDOUT
"""
_PASSING = {getattr(errno, name, None) for name in _NAMES.split()} - {None}


def is_passing(error: OSError) -> bool:
    """Whether another try may mend it: a stale mount, too many open files, a connection that broke."""
    return isinstance(error, ConnectionError | TimeoutError) or error.errno in _PASSING

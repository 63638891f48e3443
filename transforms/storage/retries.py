"""Patience with busy servers and broken connections, and an end to it."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from typing import TypeVar

PATIENCE = 60.0  # seconds that an operation, or all operations of a process without one success, may fail
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 8.0
# Broken connections, as the standard library, urllib3, requests, Google's client and obstore call them.
_BROKEN = {
    "ConnectionError", "ConnectTimeout", "Timeout", "TimeoutError", "HTTPException", "ProtocolError",
    "TransportError", "ChunkedEncodingError", "RetryError", "GenericError",
}  # fmt: skip
# What obstore's exceptions stand for; for all others it has one class, and the number is in the text alone.
_STATUS = {
    "AlreadyExistsError": 409, "PreconditionError": 412,
    "PermissionDeniedError": 403, "UnauthenticatedError": 401,
}  # fmt: skip
_IN_TEXT = re.compile(r"non-2xx status code: (\d{3})")
_T = TypeVar("_T")
_failing_since: float | None = None  # when this process's operations began to fail, one and all


def retried(operation: Callable[[], _T], *, patience: float | None = None) -> _T:
    """Runs an operation that may be repeated, until it neither meets a busy server nor a broken connection.

    A server that is lost is lost for all: operations that begin in the middle of an outage do not wait as
    long as the first one did, so that a job ends soon after.

    Args:
      patience: in seconds, PATIENCE if not given.

    Raises:
      Exception: what the last try raised, or at once what no further try would mend.
    """
    global _failing_since
    begun: float | None = None
    wait = _FIRST_WAIT
    while True:
        try:
            result = operation()
        except Exception as e:
            if not passing(e):
                raise
            now = time.monotonic()
            begun, _failing_since = begun or now, _failing_since or now
            if now + wait - min(begun, _failing_since) > (PATIENCE if patience is None else patience):
                raise
        else:
            _failing_since = None
            return result
        # Workers that failed together do not come back together.
        time.sleep(wait * random.uniform(0.75, 1.25))
        wait = min(2 * wait, _LONGEST_WAIT)


def passing(error: BaseException) -> bool:
    """Whether an error of a store is one that another try may mend."""
    error = _innermost(error)
    if "NoSuchUpload" in str(error):  # one whose end was answered by nobody may be gone: it begins anew
        return True
    status = status_of(error)
    if status is not None:
        return status >= 500 or status in (408, 429)
    return any(cls.__name__ in _BROKEN for cls in type(error).__mro__)


def status_of(error: BaseException) -> int | None:
    """The HTTP status that a store answered; None where no answer came."""
    if isinstance(error, FileNotFoundError):
        return 404
    if type(error).__module__.partition(".")[0] == "obstore":
        found = _IN_TEXT.search(str(error))
        return _STATUS.get(type(error).__name__) or (int(found[1]) if found else None)
    status = getattr(error, "code", None)
    return status if isinstance(status, int) else None


def reason_of(error: BaseException) -> str:
    """The innermost reason of a store's error, as one line."""
    error = _innermost(error)
    text = str(getattr(error, "message", None) or error) or type(error).__name__
    return " ".join(text.partition("\n\nDebug source:")[0].split())  # where obstore says it all again


def _innermost(error: BaseException) -> BaseException:
    """What Beam's file systems have wrapped, who are asked about one file at a time."""
    while isinstance(inner := getattr(error, "exception_details", None), dict) and inner:
        error = next(iter(inner.values()))
    return error

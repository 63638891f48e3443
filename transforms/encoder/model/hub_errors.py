"""What is wrong, and what to do, where a model hub's client raises: one line, and no token in it."""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

from transforms.storage.retries import retried
from transforms.storage.urls import redact_all

PATIENCE = 30.0  # seconds
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LATER = "try again later"
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "KAGGLE_KEY", "KAGGLE_API_TOKEN")
_SCHEME = re.compile(r"\b(Bearer|Basic) +[^\s'\",]+", re.IGNORECASE)
_T = TypeVar("_T")
_OFFLINE = "and HF_HUB_OFFLINE forbids to fetch it: unset that, or fetch it once where there is a network"


class _Busy(Exception):
    """A hub's answer that it cannot answer now; its cause is what the client made of it."""

    def __init__(self, status: int):
        super().__init__(status)
        self.code = status  # where `retried` looks for it


def patiently(operation: Callable[[], _T], *, broken: tuple[type[Exception], ...] = ()) -> _T:
    """Asks a hub again that is busy: a cluster's workers all ask at once. Else what is wrong is told at once.

    Args:
      broken: errors of a download that broke off, if the client does not go on with it by itself.
    """

    def once() -> tuple[Any, BaseException | None]:
        try:
            return operation(), None
        except Exception as e:
            status = _status_in(e)
            if status in (408, 429) or status >= 500:
                raise _Busy(status) from e
            if isinstance(e, broken):
                raise
            return None, e

    try:
        result, error = retried(once, patience=PATIENCE)
    except _Busy as e:
        error = e.__cause__
    if error is not None:
        raise error
    return result


def _status_in(error: BaseException | None) -> int:
    """The HTTP status that a server answered with, however often the error was wrapped; 0 if none did."""
    while error is not None:
        if (response := getattr(error, "response", None)) is not None:
            return int(response.status_code)
        error = error.__cause__
    return 0


def plain(text: object) -> str:
    """A library's message on one line, without tokens."""
    shown = _SCHEME.sub(r"\1 ***", redact_all(" ".join(str(text).split())))
    for value in filter(None, (os.environ.get(name, "").strip() for name in _TOKENS)):
        shown = shown.replace(value, "***")
    return shown


def reason(error: BaseException, name: str, revision: str | None) -> str:
    """What the Hugging Face Hub's client means.

    Args:
      name, revision: of the repository.
    """
    from huggingface_hub import constants, errors, get_token

    while isinstance(error, errors.RevisionResolutionError | errors.LocalEntryNotFoundError):
        if error.__cause__ is None:
            break
        error = error.__cause__
    page, token = f"{constants.ENDPOINT}/{name}", get_token()
    kinds = {cls.__name__ for cls in type(error).__mro__}
    if isinstance(error, errors.GatedRepoError):
        account = "the account of your token" if token else "an account, set HF_TOKEN to a token of it"
        return f"is gated: accept its terms at {page} with {account}, then run the same command again"
    if isinstance(error, errors.RepositoryNotFoundError):
        account = "your token's account cannot see" if token else "needs HF_TOKEN"
        return f"there is no {page}, or it is a private one that {account}; check the name"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"the repository has no revision {revision or 'main'}; see {page}"
    if isinstance(error, errors.OfflineModeIsEnabled):
        return f"is not in the cache ({constants.HF_HUB_CACHE}), or not all of it, {_OFFLINE}"
    if status := _status_in(error):
        return answered(status, constants.ENDPOINT, "HF_TOKEN")
    what = plain(error) or type(error).__name__
    if kinds & {"ConnectError", "ConnectTimeout", "ProxyError", "ConnectionError"}:
        return f"{constants.ENDPOINT} cannot be reached ({what}); check the network, or {_LATER}"
    if isinstance(error, OSError) and error.errno in _FULL:
        cache = constants.HF_HUB_CACHE
        return f"{error.strerror}: {cache}; make room, or set HF_HOME to a folder on a larger disk"
    return f"cannot be fetched ({what}); {_LATER}"


def answered(status: int, server: str, token: str) -> str:
    """What an HTTP status means, and what to do; `token` is the variable that has it."""
    advice = {
        401: f"{token} is not accepted: make a new one, or unset it",
        403: f"the account of {token} may not read it",
        404: "it is not there",
        429: f"too many requests: wait, or set {token}, which allows more",
    }.get(status, _LATER if status >= 500 else "this is no answer that a model hub gives: check the address")
    return f"{server} answered with HTTP status {status}; {advice}"

"""What is wrong, and what to do, where a model hub's client raises: one line, and no token in it."""

from __future__ import annotations

import errno
import os
import re

from transforms.storage.urls import redact_all

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_LATER = "try again later"
_TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "KAGGLE_KEY", "KAGGLE_API_TOKEN")
_SCHEME = re.compile(r"\b(Bearer|Basic) +[^\s'\",]+", re.IGNORECASE)
_OFFLINE = "and HF_HUB_OFFLINE forbids to fetch it: unset that, or fetch it once where there is a network"


def plain(text: object) -> str:
    """A library's message on one line, without tokens."""
    shown = _SCHEME.sub(r"\1 ***", redact_all(" ".join(str(text).split())))
    for value in filter(None, (os.environ.get(name, "").strip() for name in _TOKENS)):
        shown = shown.replace(value, "***")
    return shown


def full_disk(error: BaseException, folder: str, variable: str) -> str | None:
    """What to say if there is no room for the client's cache; None if it is something else."""
    if isinstance(error, OSError) and error.errno in _FULL:
        return f"{error.strerror}: {folder}; make room, or set {variable} to a folder on a larger disk"
    return None


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
    if isinstance(error, errors.HfHubHTTPError) and error.response is not None:
        return answered(error.response.status_code, constants.ENDPOINT, "HF_TOKEN")
    if kinds & {"TransportError", "ConnectionError"}:
        what = plain(error) or type(error).__name__
        return f"{constants.ENDPOINT} cannot be reached ({what}); check the network, or {_LATER}"
    told = full_disk(error, constants.HF_HUB_CACHE, "HF_HOME")
    return told or f"cannot be fetched ({plain(error) or type(error).__name__}); {_LATER}"


def answered(status: int, server: str, token: str) -> str:
    advice = {
        401: f"{token} is not accepted: make a new one, or unset it",
        403: f"the account of {token} may not read it",
        404: "it is not there",
        429: f"too many requests: wait, or set {token}, which allows more",
    }.get(status, _LATER if status >= 500 else "this is no answer that a model hub gives: check the address")
    return f"{server} answered with HTTP status {status}; {advice}"

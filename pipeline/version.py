"""The version of this package."""

from __future__ import annotations


def embedbeam_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("embedbeam")
    except PackageNotFoundError:  # run from a checkout
        return "0+unknown"

"""The version of this package, and of those that it uses."""

from __future__ import annotations


def installed(name: str) -> str:
    """Version of an installed package."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version(name)
    except PackageNotFoundError:  # run from a checkout
        return "0+unknown"

"""Packages that only some people need, and what brings them."""

from __future__ import annotations

import importlib.util

from transforms.errors import UsageError


def check_extra(extra: str, *modules: str, what: str, argument: str | None = None) -> None:
    """Looks whether these modules can be imported; none of them is.

    Args:
      extra: the extra of this package that brings them.
      modules: by the names under which they are imported.
      what: who needs them, as the message begins.
      argument: the option that asks for it.

    Raises:
      UsageError: one is missing, with the command that installs it.

    >>> check_extra("plot", "no_such_module", what="plots")
    Traceback (most recent call last):
    transforms.errors.UsageError: plots need no_such_module: pip install 'embedbeam[plot]'
    """
    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        need = "need" if what.endswith("s") else "needs"
        names = " and ".join(missing)
        raise UsageError(f"{what} {need} {names}: pip install 'embedbeam[{extra}]'", argument=argument)

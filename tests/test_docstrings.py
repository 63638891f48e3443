"""The examples in docstrings do what they say."""

import doctest
import importlib

import pytest
from test_imports import FILES

WITH_EXAMPLES = sorted(name for name, path in FILES.items() if ">>> " in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples(name):
    assert doctest.testmod(importlib.import_module(name), verbose=False).failed == 0

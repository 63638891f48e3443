"""Kept minimal: Beam's --setup_file needs a setup.py; everything else is in pyproject.toml."""

from setuptools import setup

setup()

"""Imports run one way: embedbeam -> pipeline -> transforms -> nothing of ours, and in no circle."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent
while not (ROOT / "pyproject.toml").exists():
    ROOT = ROOT.parent
OURS = ("embedbeam", "pipeline", "transforms")
# Folders of transforms, and whose modules each may use beside its own; BASE is everybody's.
BASE = {"blocks", "elements", "errors", "extras", "observer", "texts"}
MAY_USE = {
    "modality": set(),
    "storage": set(),
    "encoder": {"modality", "storage"},
    "formats": {"modality", "storage"},
    "output": {"formats", "modality", "storage"},  # formats: how a TFRecord is framed
    "steps": {"encoder", "formats", "modality", "output", "storage"},
}


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {module_name(path): path for top in OURS for path in (ROOT / top).rglob("*.py")}


def is_type_checking(node):
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def imports(path, *, lazy=True):
    """Full names of what a file imports, wherever in it; not what it imports for type checkers alone."""
    found, left = set(), [ast.parse(path.read_text(encoding="utf-8"))]
    while left:
        node = left.pop()
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not lazy:
            continue
        left += node.orelse if is_type_checking(node) else ast.iter_child_nodes(node)
    return found


def own_modules(names):
    """The files of ours that names stand for: `transforms.errors.UsageError` is transforms.errors."""
    return {name if name in FILES else name.rpartition(".")[0] for name in names} & set(FILES)


def tops(path):
    return {name.partition(".")[0] for name in imports(path)}


def test_the_packages_are_found():
    assert {"pipeline.cli", "transforms.elements", "transforms.encoder.policy"} <= set(FILES)
    assert imports(FILES["transforms.encoder.policy"]) >= {"dataclasses"}
    assert own_modules({"transforms.errors.UsageError", "transforms.encoder.policy", "json"}) == {
        "transforms.errors",
        "transforms.encoder.policy",
    }


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("transforms")])
def test_transforms_know_neither_the_job_nor_a_command_line(name):
    assert not tops(FILES[name]) & {"pipeline", "embedbeam", "argparse"}


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("pipeline")])
def test_the_job_does_not_use_its_front_door(name):
    assert "embedbeam" not in tops(FILES[name])


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("transforms.encoder")])
def test_the_encoder_knows_no_beam(name):
    assert "apache_beam" not in tops(FILES[name])


def folder_of(name):
    """The part of transforms that a module belongs to: a folder, or a file at its top."""
    return name.split(".")[1] if name.count(".") else ""


@pytest.mark.parametrize("name", [name for name in FILES if name.startswith("transforms.")])
def test_folders_of_transforms_use_what_lies_below_them(name):
    folder = folder_of(name)
    used = {folder_of(module) for module in own_modules(imports(FILES[name]))} - {folder, ""}
    if folder in BASE:
        assert used <= BASE
    elif folder in MAY_USE:
        assert used <= MAY_USE[folder] | BASE
    else:
        assert folder == "embed_documents", f"{folder}: a new folder; say in MAY_USE what it may use"


def graph(key, *, lazy=True):
    """Who uses whom, by key(module name)."""
    edges = {}
    for name, path in FILES.items():
        used = {key(module) for module in own_modules(imports(path, lazy=lazy))}
        edges.setdefault(key(name), set()).update(used - {key(name)})
    return edges


def circle(edges):
    try:
        graphlib.TopologicalSorter(edges).prepare()
    except graphlib.CycleError as e:
        return " <- ".join(e.args[1])
    return ""


def test_a_circle_is_seen():
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) in (
        "a <- c <- b <- a",
        "b <- a <- c <- b",
        "c <- b <- a <- c",
    )
    assert circle({"a": {"b", "c"}, "b": {"c"}}) == ""


def test_no_circle_of_files():
    """Imports inside functions count, too: they hide a circle, and do not mend it."""
    assert circle(graph(lambda name: name)) == ""


def folder(name):
    """`transforms.formats`, `pipeline.run`; a file at the top of a package stands for itself."""
    return ".".join(name.split(".")[:2])


def test_no_circle_of_folders():
    assert circle(graph(folder)) == ""

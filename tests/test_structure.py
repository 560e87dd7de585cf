"""Imports go one way: neither modules nor packages import each other in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def named(node, package):
    """The modules that an import may mean, each with what it means if it is none."""
    if isinstance(node, ast.Import):
        return [(alias.name, alias.name) for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    outer = package[: len(package) - node.level + 1] if node.level else []
    base = ".".join([*outer, *([node.module] if node.module else [])])
    return [(f"{base}.{alias.name}", base) for alias in node.names]


@pytest.fixture(scope="module")
def graph():
    """The project's modules that each module imports, within functions, too."""
    files = {}
    for folder in ("itpn_d2", "pretrain"):
        for file in (ROOT / folder).rglob("*.py"):
            parts = list(file.relative_to(ROOT).with_suffix("").parts)
            if "configs" not in parts:  # data, which are read as files
                files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = (file, parts[:-1])
    found = {name: set() for name in files}
    for name, (file, package) in files.items():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            for module, otherwise in named(node, package):
                found[name].add(module if module in files else otherwise)
        found[name] = {m for m in found[name] if m in files and m != name}
    return found


def package_of(module):
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "itpn_d2" else parts[0]


def test_modules_import_one_way(graph):
    assert len(graph) > 250 and "itpn_d2.errors" in graph["itpn_d2.engine.run"]
    tuple(TopologicalSorter(graph).static_order())  # raises CycleError with the circle


def test_packages_import_one_way(graph):
    packages = {}
    for name, imported in graph.items():
        if name != "itpn_d2":  # the face of all
            packages.setdefault(package_of(name), set()).update(map(package_of, imported - {"itpn_d2"}))
    assert "itpn_d2.engine" in packages["pretrain"] and "itpn_d2.layers" in packages["itpn_d2.backbone"]
    tuple(TopologicalSorter({k: v - {k} for k, v in packages.items()}).static_order())

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


def raised(function):
    """Errors that a function itself raises by their name; not what methods raise that are not there."""
    found, nodes = set(), list(function.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Lambda):
            continue
        nodes += ast.iter_child_nodes(node)
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            found.add(ast.unparse(node.exc.func).rpartition(".")[2])
    usual = {"AttributeError", "NotImplementedError", "StopIteration", "SystemExit"}
    return {name for name in found - usual if name.endswith("Error")}


def public(body, outer=""):
    """(name, function, docstring) of what is public, of constructors with the docstring of their class."""
    for node in body:
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for name, function, text in public(node.body, f"{node.name}."):
                own = name.endswith((".__init__", ".forward"))
                yield name, function, text + (ast.get_docstring(node) or "") if own else text
        elif isinstance(node, ast.FunctionDef) and (node.name == "__init__" or node.name[0] != "_"):
            yield outer + node.name, node, ast.get_docstring(node) or ""


def test_docstrings_name_the_errors_that_are_raised():
    """Whoever calls a function can know from its docstring what to catch."""
    silent = []
    for folder in ("itpn_d2", "pretrain"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for name, function, text in public(ast.parse(file.read_text(encoding="utf-8")).body):
                errors = raised(function)
                if errors and "Raises" not in text and not any(error in text for error in errors):
                    silent.append(f"{file.relative_to(ROOT)}: {name}: {', '.join(sorted(errors))}")
    assert not silent, "\n".join(silent)

"""Whatever a config can reach is installed with the package, also what is imported inside a function only.

The modules of the project are read, and from them on those of Detectron2, fvcore and iopath, without running
them: every import statement counts, wherever it stands.
"""

import ast
import importlib
import importlib.util
import re
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import PackageNotFoundError, distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # pytest brings it

ROOT = Path(__file__).resolve().parents[2]
FOLLOWED = ("itpn_d2", "pretrain", "detectron2", "fvcore", "iopath")
# Top-level modules that need not be installed: the only places that import them, why those are not reached,
# and the names whose use would reach them.
OPTIONAL = {
    "black": ("detectron2.config.lazy", "formats what LazyConfig.to_py prints", "to_py"),
    "caffe2": (
        "detectron2.export detectron2.export.api detectron2.export.caffe2_export"
        " detectron2.export.caffe2_inference detectron2.export.shared",
        "itpn_d2.export uses TracingAdapter alone; Detectron2 tries caffe2 and does without",
        "Caffe2Tracer Caffe2Model",
    ),
    "cityscapesscripts": (
        "detectron2.data.datasets.cityscapes detectron2.evaluation.cityscapes_evaluation",
        "Cityscapes: no config reads or evaluates it",
        "load_cityscapes_instances CityscapesInstanceEvaluator CityscapesSemSegEvaluator",
    ),
    "datasets": ("itpn_d2.data.arrow", "the extra 'hf', asked for before it is imported", ""),
    "deeplearning": (
        "detectron2.data.datasets.cityscapes detectron2.evaluation.cityscapes_evaluation",
        "what Detectron2's main branch imports in the place of cityscapesscripts",
        "load_cityscapes_instances CityscapesInstanceEvaluator CityscapesSemSegEvaluator",
    ),
    "fairscale": (
        "detectron2.modeling.backbone.mvit detectron2.modeling.backbone.vit",
        "checkpoints of its own ViT and MViT, in the main branch; no config turns them on",
        "use_act_checkpoint",
    ),
    "fastapi": ("itpn_d2.inference.page", "the extra 'app', asked for before it is imported", ""),
    "gradio": ("itpn_d2.inference.page", "as fastapi", ""),
    "lvis": (
        "detectron2.data.datasets.lvis detectron2.evaluation.lvis_evaluation itpn_d2.data.lvis_package",
        "LVIS's own evaluation, asked for before training; an LVIS json is read as any COCO json",
        "load_lvis_json",
    ),
    "mmcv": ("detectron2.modeling.mmdet_wrapper", "models of MMDetection", "MMDetBackbone MMDetDetector"),
    "mmdet": ("detectron2.modeling.mmdet_wrapper", "models of MMDetection", "MMDetBackbone MMDetDetector"),
    "onnx": ("detectron2.export.caffe2_export", "as caffe2", ""),
    "onnxruntime": ("itpn_d2.export.formats", "the extra 'export', asked for before it is imported", ""),
    "open_clip": ("pretrain.targets.towers", "source='open_clip'; timm's towers do without", ""),
    "panopticapi": (
        "detectron2.utils.panoptic_api detectron2.evaluation.panoptic_evaluation"
        " itpn_d2.detectron2_wheel.added.panoptic_api detectron2.utils.visualizer",
        "itpn-install-detectron2 puts a module of its own in its place; the main branch's pictures of truth",
        "draw_dataset_dict",
    ),
    "pyarrow": ("itpn_d2.data.arrow itpn_d2.data.arrow_set", "as datasets, which brings it", ""),
    "tmetry": ("iopath.common.event_logger", "tried and left out", ""),
    "uvicorn": ("itpn_d2.inference.page", "as fastapi", ""),
}
# imported by Detectron2 0.6 alone or by its main branch alone
OF_ONE_VERSION = {"cityscapesscripts", "deeplearning", "fairscale", "panopticapi"}


def source(module: str) -> Path | None:
    """The Python file of a module, None where there is none (an attribute, a compiled module)."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, AttributeError, ValueError):
        return None
    origin = spec.origin if spec is not None else None
    return Path(origin) if origin is not None and origin.endswith(".py") else None


def imports(path: Path, module: str) -> Iterator[tuple[str, str | None]]:
    """What the file imports, absolute: (module, name or None)."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parts, base] if base else parts)
            yield from ((base, alias.name) for alias in node.names)


@cache
def reached() -> dict[str, set[str]]:
    """Third-party modules, each with the modules that import it."""
    own = [p for folder in ("itpn_d2", "pretrain") for p in (ROOT / folder).rglob("*.py")]
    below = [p.relative_to(ROOT).with_suffix("").parts for p in own]
    names = [parts for parts in below if "configs" not in parts]
    todo = [".".join(parts).removesuffix(".__init__") for parts in names]
    seen: set[str] = set()
    found: dict[str, set[str]] = {}
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        path = source(module)
        if path is None:
            continue
        for base, name in imports(path, module):
            top = base.split(".")[0]
            if top in FOLLOWED:
                parts = base.split(".")
                todo += [".".join(parts[: k + 1]) for k in range(len(parts))]
                todo += [f"{base}.{name}"] if name else []
            elif top and top not in sys.stdlib_module_names and top != "torch":
                found.setdefault(base, set()).add(module)
    assert "fvcore.transforms.transform" in seen and "pretrain.targets.towers" in seen
    return found


@cache
def providers() -> dict[str, set[str]]:
    """The distributions that bring each top-level module, by their files; importlib.metadata of Python 3.10
    knows only those that list the modules themselves."""
    found: dict[str, set[str]] = {}
    for distribution in distributions():
        listed = (distribution.read_text("top_level.txt") or "").split()
        files = [file.parts[0] for file in distribution.files or () if file.suffix in (".py", ".so", ".pyd")]
        for module in {*listed, *(name.partition(".")[0] for name in files)}:
            found.setdefault(module, set()).add(canonicalize_name(distribution.metadata["Name"]))
    return found


def required() -> set[str]:
    """What pyproject.toml installs, with what that requires, and Detectron2, whose own are not counted."""
    todo = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    seen = {"detectron2"}
    while todo:
        requirement = Requirement(todo.pop())
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        name = canonicalize_name(requirement.name)
        if name not in seen:
            seen.add(name)
            try:
                todo += requires(name) or []
            except PackageNotFoundError:
                pytest.fail(f"{name}, which pyproject.toml requires, is not installed")
    return seen


def test_what_is_imported_somewhere_is_installed():
    brought, wrong = providers(), []
    for module, places in sorted(reached().items()):
        top = module.split(".")[0]
        if top in OPTIONAL:
            allowed = set(OPTIONAL[top][0].split())
            wrong += [f"{module}: {OPTIONAL[top][1]}; but {p} imports it" for p in sorted(places - allowed)]
        elif not brought.get(top, set()) & required():
            wrong.append(f"{module}, which {', '.join(sorted(places))} import, is not in pyproject.toml")
        else:
            importlib.import_module(module)
    assert not wrong, "\n".join(wrong)


def test_shapely_counts():
    """fvcore imports it within a method only, and does not require it."""
    assert "fvcore.transforms.transform" in reached()["shapely.geometry"]
    assert "shapely" in required()


def test_excuses_are_needed_and_true():
    tops = {m.split(".")[0] for m in reached()}
    assert tops >= OPTIONAL.keys() - OF_ONE_VERSION
    assert tops & {"cityscapesscripts", "deeplearning"}
    sources = [p for folder in ("itpn_d2", "pretrain", "configs") for p in (ROOT / folder).rglob("*.py")]
    text = "\n".join(p.read_text(encoding="utf-8") for p in sources)
    for _, why, names in OPTIONAL.values():
        used = [n for n in names.split() if re.search(rf"\b{n}\b", text)]
        assert not used, f"{used}: excused because of {why!r}"

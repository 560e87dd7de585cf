"""Every change made to Detectron2 0.6 so that it runs on current Python, torch, numpy and Pillow.

Upstream's main branch has them too, except the one in the model zoo and those for panopticapi.
"""

from dataclasses import dataclass
from pathlib import Path

from ..errors import UseError


class SubstitutionError(UseError):
    """The sources are not the ones the substitutions were written for."""


@dataclass(frozen=True)
class Substitution:
    """Replace ``old``, which occurs ``count`` times in ``file`` (relative to the sdist), by ``new``."""

    file: str
    old: str
    new: str
    count: int = 1


_PANOPTIC = ("from panopticapi.", "from detectron2.utils.panoptic_api import ")
_SCHEDULER = ("lr_scheduler._LRScheduler", "lr_scheduler.LRScheduler")

SUBSTITUTIONS: tuple[Substitution, ...] = (
    # The fast COCO evaluator is compiled; without it the official one computes the same numbers.
    Substitution(
        "detectron2/evaluation/coco_evaluation.py",
        "from detectron2.evaluation.fast_eval_api import COCOeval_opt\n",
        "",
    ),
    Substitution(
        "detectron2/evaluation/coco_evaluation.py",
        "from .evaluator import DatasetEvaluator\n",
        "from .evaluator import DatasetEvaluator\n\nCOCOeval_opt = COCOeval\n",
    ),
    Substitution(
        "detectron2/evaluation/coco_evaluation.py",
        "        self._use_fast_impl = use_fast_impl\n",
        "        if use_fast_impl and COCOeval_opt is COCOeval:\n"
        '            self._logger.info("The compiled COCO evaluator is absent, using the official one.")\n'
        "            use_fast_impl = False\n"
        "        self._use_fast_impl = use_fast_impl\n",
    ),
    Substitution(
        "detectron2/export/__init__.py",
        "from .api import *\n",
        "try:\n"
        "    from caffe2.proto import caffe2_pb2 as _caffe2_pb2  # noqa: F401\n"
        "except ImportError:\n"
        "    pass\n"
        "else:\n"
        "    from .api import *\n",
    ),
    # setuptools 81 removed pkg_resources.
    Substitution("detectron2/model_zoo/model_zoo.py", "import pkg_resources\n", ""),
    Substitution(
        "detectron2/model_zoo/model_zoo.py",
        "pkg_resources.resource_filename(\n"
        '        "detectron2.model_zoo", os.path.join("configs", config_path)\n'
        "    )",
        'os.path.join(os.path.dirname(os.path.abspath(__file__)), "configs", config_path)',
    ),
    Substitution("detectron2/data/transforms/transform.py", "Image.LINEAR", "Image.BILINEAR"),
    # numpy 1.24 removed its aliases of Python's own types, numpy 2 changed what copy=False means.
    Substitution("detectron2/structures/masks.py", "np.bool)", "bool)", 3),
    Substitution("detectron2/utils/visualizer.py", "np.bool)", "bool)", 3),
    Substitution("detectron2/utils/video_visualizer.py", "np.bool)", "bool)", 1),
    Substitution("detectron2/evaluation/pascal_voc_evaluation.py", "np.bool)", "bool)", 2),
    Substitution("detectron2/evaluation/sem_seg_evaluation.py", "np.int)", "int)", 2),
    Substitution("detectron2/evaluation/sem_seg_evaluation.py", "np.float)", "float)", 5),
    Substitution("detectron2/data/build.py", "dtype=np.int", "dtype=int", 2),
    Substitution("detectron2/data/datasets/pascal_voc.py", "np.str)", "str)"),
    Substitution("detectron2/layers/mask_ops.py", "np.array(mask, copy=False)", "np.asarray(mask)"),
    # Python 3.11 no longer samples from sets.
    Substitution(
        "detectron2/data/common.py",
        "_rng.sample(self._fallback_candidates,",
        "_rng.sample(list(self._fallback_candidates),",
    ),
    # torch 2 made LRScheduler the base class. Otherwise a checkpoint silently lacks the scheduler.
    Substitution("detectron2/engine/hooks.py", *_SCHEDULER, 2),
    Substitution("detectron2/solver/lr_scheduler.py", *_SCHEDULER, 4),
    Substitution("detectron2/solver/build.py", *_SCHEDULER),
    Substitution("projects/DeepLab/deeplab/lr_scheduler.py", *_SCHEDULER),
    Substitution("projects/DeepLab/deeplab/build_solver.py", *_SCHEDULER),
    # GroupNorm of 32 groups cannot be built over one channel.
    Substitution("detectron2/modeling/meta_arch/retinanet.py", "get_norm(norm, 1)", "get_norm(norm, 32)"),
    # `import importlib` alone does not promise its submodules.
    Substitution(
        "detectron2/projects/__init__.py",
        "import importlib\n",
        "import importlib.abc\nimport importlib.util\n",
    ),
    Substitution(
        "detectron2/evaluation/panoptic_evaluation.py", _PANOPTIC[0] + "utils import ", _PANOPTIC[1]
    ),
    Substitution(
        "detectron2/evaluation/panoptic_evaluation.py", _PANOPTIC[0] + "evaluation import ", _PANOPTIC[1], 2
    ),
    Substitution("detectron2/utils/visualizer.py", _PANOPTIC[0] + "utils import ", _PANOPTIC[1]),
    Substitution(
        "projects/Panoptic-DeepLab/panoptic_deeplab/dataset_mapper.py",
        _PANOPTIC[0] + "utils import ",
        _PANOPTIC[1],
    ),
)


def apply_substitutions(root: Path, substitutions: tuple[Substitution, ...] = SUBSTITUTIONS) -> int:
    """Apply ``substitutions`` to the sources under ``root``; either all of them or, on an error, none.

    Returns:
        How many places were changed.

    Raises:
        SubstitutionError: a file is absent, or a text does not occur the expected number of times.
    """
    texts: dict[Path, str] = {}
    for s in substitutions:
        path = root / s.file
        if path not in texts:
            if not path.is_file():
                raise SubstitutionError(
                    f"{path} is missing: these are not the Python files of Detectron2 0.6. "
                    "Remove a --sdist option to use the pinned one."
                )
            texts[path] = path.read_text(encoding="utf-8")
        found = texts[path].count(s.old)
        if found != s.count:
            raise SubstitutionError(
                f"{path}: expected {s.count} x {s.old!r}, found {found}: these are not the Python files of "
                "Detectron2 0.6, or they were changed already. Remove a --sdist option to use the pinned one."
            )
        texts[path] = texts[path].replace(s.old, s.new)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    return sum(s.count for s in substitutions)

"""COCO's average precision: each process matches its images, and one accumulates the results.

COCOeval compares image by image; what it then adds up are the scores and whether each detection found an
object, in the order of the images. Masks and boxes don't leave the process that has predicted them, and the
numbers are those of a single process to the last digit.
"""

import contextlib
import copy
import io
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from detectron2.evaluation.coco_evaluation import COCOevalMaxDets
from detectron2.utils import comm
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

_KEPT = ("dtScores", "dtIgnore", "gtIgnore")
Part = tuple[list[int], list[dict[str, Any] | None]]


def own_images(seen: Collection[int], wanted: Collection[int]) -> list[int]:
    """The images that this process matches, sorted; collective.

    Each belongs to the first process that has seen it, those that nobody has seen to the main one.

    Args:
        seen: by this process.
        wanted: all images that count, as far as this process knows.
    """
    everyone = comm.all_gather((set(seen), set(wanted)))
    counted: set[int] = set().union(*(others for _, others in everyone))
    before: set[int] = set().union(*(others for others, _ in everyone[: comm.get_rank()]))
    own = set(seen) - before
    if comm.is_main_process():
        own |= counted - set().union(*(others for others, _ in everyone))
    return sorted(own & counted)


def average_precision(
    truth: COCO,
    results: Sequence[dict[str, Any]],
    task: str,
    images: Sequence[int],
    limits: Sequence[int],
    sigmas: Sequence[float] = (),
    keypoints: int = 0,
) -> COCOeval | None:
    """The evaluation, accumulated and summed up, in the main process, None in the others; collective.

    Args:
        truth: what there is in this process's images, with all categories.
        results: of this process, with the ids of the json.
        images: this process's, see :func:`own_images`; what ``results`` hold of others doesn't count.
        limits: three numbers of detections of a class in an image that count.
        sigmas: of keypoints; () for those of COCO.
        keypoints: how many an annotation has.
    """
    with contextlib.redirect_stdout(io.StringIO()):
        part = _match(truth, results, task, images, limits, sigmas, keypoints)
    parts = comm.gather(part)
    if not comm.is_main_process():
        return None
    whole = _evaluation(truth, None, task, limits, sigmas)
    whole.params.imgIds, whole.evalImgs = _merged(parts, len(whole.params.catIds) * len(whole.params.areaRng))
    whole._paramsEval = copy.deepcopy(whole.params)
    whole.accumulate()
    whole.summarize()
    return whole


def _evaluation(
    truth: COCO, found: COCO | None, task: str, limits: Sequence[int], sigmas: Sequence[float]
) -> COCOeval:
    """As Detectron2's ``_evaluate_predictions_on_coco`` sets it up."""
    evaluation = (COCOeval if limits[2] == 100 else COCOevalMaxDets)(truth, found, task)
    if task != "keypoints":
        evaluation.params.maxDets = list(limits)
    elif sigmas:
        evaluation.params.kpt_oks_sigmas = np.array(sigmas)
    return evaluation


def _match(
    truth: COCO,
    results: Sequence[dict[str, Any]],
    task: str,
    images: Sequence[int],
    limits: Sequence[int],
    sigmas: Sequence[float],
    keypoints: int,
) -> Part:
    if not images:  # to COCOeval, none are all
        return [], []
    # with a box beside the mask, its area would be the object's
    hidden = {"bbox"} if task == "segm" else set()
    results = [{k: v for k, v in r.items() if k not in hidden} for r in results]
    found = truth.loadRes(results) if results else _nothing(truth)
    evaluation = _evaluation(truth, found, task, limits, sigmas)
    if task == "keypoints" and results:
        _check_keypoints(keypoints, results[0], evaluation)
    evaluation.params.imgIds = list(images)
    evaluation.evaluate()
    return list(evaluation.params.imgIds), [_compact(e) for e in evaluation.evalImgs]


def _nothing(truth: COCO) -> COCO:
    found = COCO()
    found.dataset = {**truth.dataset, "annotations": []}
    found.createIndex()
    return found


def _check_keypoints(annotated: int, result: dict[str, Any], evaluation: COCOeval) -> None:
    predicted = len(result["keypoints"]) // 3
    sigmas = len(evaluation.params.kpt_oks_sigmas)
    if not predicted == annotated == sigmas:
        raise ValueError(
            f"the model predicts {predicted} keypoints, the dataset has {annotated}, and there are {sigmas} "
            f"keypoint_sigmas: the three have to agree"
        )


def _compact(found: dict[str, Any] | None) -> dict[str, Any] | None:
    """What is added up of one image, class and range of areas: of matches only whether there is one."""
    if found is None:
        return None
    kept = {key: np.asarray(found[key]) for key in _KEPT}
    return {**kept, "dtMatches": found["dtMatches"] != 0}


def _merged(parts: Sequence[Part], rows: int) -> Part:
    """The images of all, sorted, and what was found in them: ``rows`` (classes x areas) times the images."""
    place = {image: (p, i) for p, (images, _) in enumerate(parts) for i, image in enumerate(images)}
    order = sorted(place)
    found = []
    for row in range(rows):
        for image in order:
            part, index = place[image]
            images, matches = parts[part]
            found.append(matches[row * len(images) + index])
    return order, found

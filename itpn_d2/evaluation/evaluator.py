"""The evaluator of a detection dataset."""

from detectron2.evaluation import COCOEvaluator

from ..data import has_masks


def build_evaluator(dataset_name: str, output_dir: str | None = None, max_detections: int = 100) -> COCOEvaluator:
    """COCO AP of boxes and, where the dataset has them, masks; gathers over all processes.

    Args:
        max_detections: detections an image that count (COCO's rule is 100; crowded images may want more).
    """
    tasks = ("bbox", "segm") if has_masks(dataset_name) else ("bbox",)
    # pycocotools' evaluation: the compiled one is not there in every Detectron2
    return COCOEvaluator(
        dataset_name,
        tasks=tasks,
        distributed=True,
        output_dir=output_dir,
        use_fast_impl=False,
        max_dets_per_image=max_detections,
    )

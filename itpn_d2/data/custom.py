"""Custom data: a COCO json with its folder of images."""

import logging
import os

from .arrow import is_arrow
from .arrow_objects import register_hf
from .catalogs import is_registered, register_detections, require_paths
from .coco_check import check_coco
from .picture_check import VerifyImages

logger = logging.getLogger(__name__)


def register_coco(
    name: str,
    json: str,
    images: str,
    skip_bad_records: bool = False,
    verify_images: VerifyImages = "decode",
) -> str:
    """Check a COCO json and register it under ``name``; classes come from the json.

    Args:
        json: "" if ``images`` is a Hugging Face dataset (:mod:`.arrow`), which contains the objects together
            with the images, see :func:`.register_hf`.

    Raises:
        DatasetError: no path was given, or :func:`check_coco` refuses.
    """
    if not json and is_arrow(images):
        return register_hf(name, images, skip_bad_records=skip_bad_records, verify_images=verify_images)
    require_paths(name, json=json, images=images)
    arguments = (str(json), str(images), skip_bad_records, verify_images, os.path.getmtime(json))
    if is_registered(name, arguments):
        return name
    coco = check_coco(json, images, skip_bad_records, verify_images).coco
    if not coco.annotated:
        logger.warning("%s: it has no annotations, so that it can only be used for predictions", json)
    return register_detections(name, arguments, coco, str(json), str(images), coco.keypoints)

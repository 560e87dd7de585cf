"""Recognising files of another kind than expected, for the end of a message; empty if the kind is unknown."""

import re
from collections.abc import Mapping
from typing import Any

_PICTURES = (
    (b"version https://git-lfs", "it is a Git LFS pointer: fetch the file itself with git lfs pull"),
    (b"<!DOCTYPE", "it is a web page that was saved instead of the image: download the image again"),
    (b"<html", "it is a web page that was saved instead of the image: download the image again"),
    (b"<svg", "it is a drawing (SVG): save it as PNG"),
    (b"<?xml", "it is XML"),
    (b"\x1f\x8b", "it is compressed (gzip): unpack it"),
    (b"PK\x03\x04", "it is a zip archive: unpack it"),
)
_HEIF = (b"ftyphei", b"ftypmif1", b"ftypheix")
_EXPORT = "export the annotations in COCO's format"


def picture_file(path: str) -> str:
    """Describe a file that no decoder can read."""
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except (OSError, ValueError):
        return ""
    if not start:
        return "it is empty"
    if any(kind in start[:24] for kind in _HEIF):
        return "it is a HEIC image, as phones write them: save it as JPEG"
    return next((what for mark, what in _PICTURES if start.lstrip().startswith(mark)), "")


def text_file(content: bytes) -> str:
    """Describe a file that is not a json."""
    start = content[:4096].lstrip(b"\xef\xbb\xbf \t\r\n")
    if not start:
        return "; it is empty"
    if start.startswith(b"\x1f\x8b"):
        return "; it is compressed (gzip): unpack it with gunzip"
    if start.startswith(b"PK\x03\x04"):
        return "; it is a zip archive: unpack it"
    if start.startswith(b"<"):
        return f"; it is XML, like PascalVOC's annotations: {_EXPORT}"
    if start.startswith(b"version https://git-lfs"):
        return "; it is a Git LFS pointer: fetch the file itself with git lfs pull"
    lines = start.decode("utf-8", "replace").splitlines()[:2]
    if len(lines) > 1 and all(
        line.lstrip().startswith("{") and line.rstrip().endswith("}") for line in lines
    ):
        return f"; it has one object per line (JSON Lines): {_EXPORT}"
    if re.fullmatch(r"\d+( +-?[\d.eE+-]+){4,}", lines[0].strip()):
        return f"; it has lines of numbers, like YOLO's labels: {_EXPORT}"
    if re.match(r"[\w-]+ *:( |$)", lines[0]) or lines[0].startswith("#"):
        return f"; it looks like YAML, like YOLO's data.yaml: {_EXPORT}"
    if lines[0].count(",") >= 3 and not lines[0].startswith(("{", "[")):
        return f"; it looks like a table (CSV): {_EXPORT}"
    if start.startswith((b"//", b"/*")):
        return "; it begins with a comment, which json does not allow: remove it"
    return ""


def json_content(data: Any) -> str:
    """Describe a json that is not a COCO json."""
    tool = _tool(data)
    return f"; it looks like {tool}: {_EXPORT}" if tool else ""


def _tool(data: Any) -> str:
    first = data
    if isinstance(data, list):
        first = data[0] if data else None
        if isinstance(first, Mapping) and {"image_id", "category_id", "score"} <= first.keys():
            return "predictions in COCO's result format"
        if isinstance(first, Mapping) and {"images", "annotations"} <= first.keys():
            return "a COCO json in a list"
    if not isinstance(first, Mapping):
        return ""
    keys = first.keys()
    if "shapes" in keys and "imagePath" in keys:
        return "labelme's file of one image"
    if "data" in keys and ("annotations" in keys or "completions" in keys):
        return "Label Studio's own json"
    if "image" in keys and "annotations" in keys:
        return "CreateML's json"
    if "items" in keys and "categories" in keys:
        return "Datumaro's json"
    if "data_row" in keys or "Labeled Data" in keys or "External ID" in keys:
        return "Labelbox's own json"
    if "objects" in keys and "size" in keys:
        return "Supervisely's file of one image"
    if "instances" in keys and "metadata" in keys:
        return "SuperAnnotate's file of one image"
    if "_via_img_metadata" in keys or _is_via(first):
        return "VIA's own json"
    if isinstance(first.get("dataset"), Mapping) and "images" in first["dataset"]:
        return "a COCO json within the key 'dataset'"
    return ""


def _is_via(data: Mapping[str, Any]) -> bool:
    value = next(iter(data.values()), None)
    return isinstance(value, Mapping) and "filename" in value and "regions" in value

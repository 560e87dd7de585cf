"""Every config of this project with the weights that are known for it, and functions from a name to a model.

    from itpn_d2 import model_zoo
    model_zoo.list(task="detection")
    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_fast_itpn_tiny_1x")
    backbone = model_zoo.get_backbone("fast_itpn_base", weights="itpn://fast_itpn_base_clipl_e1600.pt")

On the command line: ``python -m itpn_d2.model_zoo list | show | download | verify``. ``itpn://``, ``hf://``
and ``gdrive://`` are addresses for every loader, also Detectron2's own (``itpn_d2/path_handlers.py``). All
numbers and licences: ``MODEL_ZOO.md``.
"""

from ..errors import UnknownModelError, ZooError
from ..normalisation import ImageStatistics
from .cache import cache_folder
from .card import Card
from .entry import Entry, Metric, Weights
from .pretrained import from_pretrained, push_to_hub, save_pretrained
from .registry import get_entry
from .registry import list_entries as list  # noqa: A004  (as Detectron2's and timm's users expect)
from .zoo import get, get_backbone, get_checkpoint_url, get_config, get_config_file

__all__ = [
    "Card",
    "Entry",
    "ImageStatistics",
    "Metric",
    "UnknownModelError",
    "Weights",
    "ZooError",
    "cache_folder",
    "from_pretrained",
    "get",
    "get_backbone",
    "get_checkpoint_url",
    "get_config",
    "get_config_file",
    "get_entry",
    "list",
    "push_to_hub",
    "save_pretrained",
]

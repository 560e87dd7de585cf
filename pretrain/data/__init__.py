"""Images for pre-training: sources, views and loaders."""

from itpn_d2.data import BrokenImages, hf_images
from itpn_d2.data.decode import BrokenImageError
from itpn_d2.data.image_sources import ImageSource, PathTable, coco_images, image_folder, scenes, text_list
from itpn_d2.data.shards import image_shards

from .dataset import ImageDataset, collate
from .loader import build_image_loader, build_pretrain_loader
from .views import TestView, TrainView

__all__ = [
    "BrokenImageError",
    "BrokenImages",
    "ImageDataset",
    "ImageSource",
    "PathTable",
    "TestView",
    "TrainView",
    "build_image_loader",
    "build_pretrain_loader",
    "coco_images",
    "collate",
    "hf_images",
    "image_folder",
    "image_shards",
    "scenes",
    "text_list",
]

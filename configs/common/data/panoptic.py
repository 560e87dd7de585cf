"""Your own COCO panoptic json: set dataset.{train,val}.{json,images,labels}; labels is the folder of PNGs."""

from detectron2.config import LazyCall as L

from itpn_d2.data import PanopticMapper, register_panoptic
from itpn_d2.evaluation import PanopticEvaluator

from .custom import dataloader

dataset = dict(
    train=L(register_panoptic)(name="panoptic_train", json="", images="", labels="", skip_bad_records=False),
    val=L(register_panoptic)(name="panoptic_val", json="", images="", labels="", skip_bad_records=False),
    num_classes=None,  # things, from the json
    class_names=None,
    num_semantic_classes=None,  # stuff, and one for all things
)
dataloader.train.mapper = L(PanopticMapper)(
    augmentations=dataloader.train.mapper.augmentations,
    seed="${train.seed}",
    decoder="${dataloader.decoder}",
)
dataloader.train.filter_empty = False  # images of stuff alone train the semantic branch
dataloader.val_loss.filter_empty = False
dataloader.val_loss.mapper = L(PanopticMapper)(
    augmentations="${dataloader.test.mapper.augmentations}", seed=0, decoder="${dataloader.decoder}"
)
dataloader.evaluator = L(PanopticEvaluator)(dataset_name="${dataset.val.name}", output_dir=None)

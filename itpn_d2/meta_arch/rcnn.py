"""Detectron2's detectors with regions, whose backbone is told where the images of a padded batch end.

Detectron2 passes only the padded tensor to its backbone. Everything else is Detectron2's.
"""

from typing import Any

from detectron2.modeling import GeneralizedRCNN as Detectron2GeneralizedRCNN
from detectron2.modeling import PanopticFPN as Detectron2PanopticFPN
from detectron2.modeling import ProposalNetwork as Detectron2ProposalNetwork
from detectron2.modeling.meta_arch.panoptic_fpn import combine_semantic_and_instance_outputs
from detectron2.modeling.postprocessing import detector_postprocess, sem_seg_postprocess
from detectron2.structures import ImageList, Instances
from detectron2.utils.events import get_event_storage
from torch import Tensor

from ..layers import upload
from .sized import Sized, pad_labels

Batch = list[dict[str, Any]]


def result_size(item: dict[str, Any], image_size: Any) -> tuple[Any, Any]:
    """(height, width) of the results of an image: the requested size, else its own."""
    return item.get("height", image_size[0]), item.get("width", image_size[1])


def _targets(batch: Batch, device: Any) -> list[Instances] | None:
    return [item["instances"].to(device) for item in batch] if "instances" in batch[0] else None


class GeneralizedRCNN(Sized, Detectron2GeneralizedRCNN):
    """R-CNNs: proposals, then boxes, masks, keypoints of each region."""

    def forward(self, batched_inputs: Batch) -> Any:
        """As of Detectron2's: losses in training, else ``{"instances": ...}`` of each image."""
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        features, targets = self.features(images), _targets(batched_inputs, self.device)
        proposals, losses = self._proposals(images, features, batched_inputs, targets)
        _, region_losses = self.roi_heads(images, features, proposals, targets)
        if self.vis_period > 0 and get_event_storage().iter % self.vis_period == 0:
            # what it draws has to be on the CPU
            drawn = [{**item, "instances": item["instances"].to("cpu")} for item in batched_inputs]
            self.visualize_training(drawn, proposals)
        return {**region_losses, **losses}

    def inference(
        self,
        batched_inputs: Batch,
        detected_instances: list[Instances] | None = None,
        do_postprocess: bool = True,
    ) -> Any:
        """As of Detectron2's: the results, or what heads say of given boxes, at the size asked for, or as the
        heads have them."""
        images = self.preprocess_image(batched_inputs)
        features = self.features(images)
        if detected_instances is None:
            proposals, _ = self._proposals(images, features, batched_inputs, None)
            results, _ = self.roi_heads(images, features, proposals, None)
        else:
            given = [instances.to(self.device) for instances in detected_instances]
            results = self.roi_heads.forward_with_given_boxes(features, given)
        if not do_postprocess:
            return results
        return self._postprocess(results, batched_inputs, images.image_sizes)

    def _proposals(
        self,
        images: ImageList,
        features: dict[str, Tensor],
        batch: Batch,
        targets: list[Instances] | None,
    ) -> tuple[list[Instances], dict[str, Tensor]]:
        """Those of the network, or those that come with the images."""
        if self.proposal_generator is not None:
            return self.proposal_generator(images, features, targets)
        return [item["proposals"].to(self.device) for item in batch], {}


class PanopticFPN(Sized, Detectron2PanopticFPN):
    """Panoptic FPN (Kirillov et al., CVPR'19): an R-CNN and a semantic branch."""

    def forward(self, batched_inputs: Batch) -> Any:
        """As of Detectron2's: losses in training, else ``instances``, ``sem_seg`` and ``panoptic_seg`` of
        each image."""
        if not self.training:
            return self.inference(batched_inputs)
        images = self.preprocess_image(batched_inputs)
        features, targets = self.features(images), _targets(batched_inputs, self.device)
        labels = [upload(item["sem_seg"], self.device) for item in batched_inputs]
        _, losses = self.sem_seg_head(features, pad_labels(labels, images, self.sem_seg_head.ignore_value))
        proposals, proposal_losses = self.proposal_generator(images, features, targets)
        _, region_losses = self.roi_heads(images, features, proposals, targets)
        return {**losses, **proposal_losses, **region_losses}

    def inference(self, batched_inputs: Batch, do_postprocess: bool = True) -> Any:
        """As of Detectron2's: results at the size asked for, or (instances, logits) as the heads have
        them."""
        images = self.preprocess_image(batched_inputs)
        features = self.features(images)
        logits, _ = self.sem_seg_head(features, None)
        proposals, _ = self.proposal_generator(images, features, None)
        found, _ = self.roi_heads(images, features, proposals, None)
        if not do_postprocess:
            return found, logits
        results = []
        for item, size, one, instances in zip(batched_inputs, images.image_sizes, logits, found, strict=True):
            asked = result_size(item, size)
            semantic = sem_seg_postprocess(one, size, *asked)
            instances = detector_postprocess(instances, *asked)
            panoptic = combine_semantic_and_instance_outputs(
                instances,
                semantic.argmax(0),
                self.combine_overlap_thresh,
                self.combine_stuff_area_thresh,
                self.combine_instances_score_thresh,
            )
            results.append({"sem_seg": semantic, "instances": instances, "panoptic_seg": panoptic})
        return results


class ProposalNetwork(Sized, Detectron2ProposalNetwork):
    """Proposals alone."""

    def forward(self, batched_inputs: Batch) -> Any:
        """As of Detectron2's: losses in training, else ``{"proposals": ...}`` of each image."""
        images = [upload(item["image"], self.device) for item in batched_inputs]
        images = [(image - self.pixel_mean) / self.pixel_std for image in images]
        images = ImageList.from_tensors(images, self.backbone.size_divisibility)
        targets = _targets(batched_inputs, self.device)
        proposals, losses = self.proposal_generator(images, self.features(images), targets)
        if self.training:
            return losses
        return [
            {"proposals": detector_postprocess(one, *result_size(item, size))}
            for item, size, one in zip(batched_inputs, images.image_sizes, proposals, strict=True)
        ]

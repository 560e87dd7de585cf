"""From a file to a model of the sizes that it holds."""

from pathlib import Path
from typing import Any

from torch import nn

from ..backbone import create_model
from ..errors import CheckpointError
from .addresses import local_path
from .architecture import architecture
from .detector_models import create_detector
from .detectors import detector_layout
from .key_maps import to_native
from .loading import load_contents
from .state import find_state, unwrap
from .state_file import load_state_file


def create_from_checkpoint(
    source: str | Path | dict[str, Any], pyramid: bool | None = None, **overrides: Any
) -> nn.Module:
    """A model of the sizes of a checkpoint, loaded: a backbone, a classifier, a bare trunk, or a published
    DINO or Mask DINO over a given backbone.

    Args:
        source: a file of any known layout, or its contents.
        pyramid: False leaves the file's pyramid out; None: takes it if there is one.
        overrides: arguments of :func:`itpn_d2.create_model` that replace what the file says, such as
            ``drop_path`` or ``pos_grid``, to which tables are then adapted. The width of a head shows only in
            relative tables; without them it is 64, as in every published trunk, unless ``num_heads`` says
            otherwise. Of a detector: ``backbone``, any of Detectron2's, which gets the file's weights where
            it has the same names; ``num_heads`` (8, as in every published file), ``feature_order`` (of a Mask
            DINO whose maps have all the same number of channels), ``in_features`` (the coarsest maps of the
            backbone) and arguments of :class:`~itpn_d2.meta_arch.DINO` or ``MaskDINO``: what no shape shows
            is ``num_queries`` of a two-stage Mask DINO (300), ``box_init`` (``mask2box``), ``task``
            (``instance``; of K + 1 logits ``semantic``) with ``num_classes``, the things, for ``panoptic``,
            and ``groups`` (32).

    Raises:
        CheckpointError: see :func:`.load_pretrained`.
    """
    content = source if isinstance(source, dict) else load_state_file(local_path(source))
    file = "" if isinstance(source, dict) else str(source)
    try:
        stored = find_state(content)
        if detector_layout(stored.state) is not None:
            return create_detector(stored, name=file, **{"backbone": None, **overrides})
        found = architecture(to_native(unwrap(content)).state)
    except CheckpointError as error:
        raise CheckpointError(f"{file}: {error}" if file else str(error)) from error
    options = found.options()
    if pyramid or (pyramid is None and found.fpn_dim is not None):
        options.update(pyramid=True, **found.pyramid_options())
    else:
        options.update(found.classifier_options())
    model = create_model(f"{found.family}_nano", **{**options, **overrides})
    load_contents(model, content, file)
    return model

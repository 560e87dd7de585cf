"""Names inside networks of timm, whole or as ``features_only`` wraps them.

timm's wrappers rename: ``stages.0`` becomes ``stages_0`` (FeatureListNet), everything gets a ``model.`` or
``body.`` in front (FeatureGetterNet, FeatureHookNet). *Plain* names here are those of the whole network,
``timm.create_model(name)``.
"""

import re
from collections.abc import Iterator

from timm.models._features import FeatureDictNet, FeatureGetterNet, FeatureHookNet
from torch import nn

_WRAPPERS = (FeatureDictNet, FeatureHookNet, FeatureGetterNet)
# what stands behind the last block: norms, pooling, classifiers
HEAD = re.compile(
    r"(head|head_dist|head_norm|norm_head|pre_head_norm|fc_norm|norm|fc|classifier|conv_head|bn2|attn_pool|"
    r"final_conv|final_layer|last_linear|downsamp_modules)\."
)
_BLOCKS = (
    re.compile(r"(?:stages|layers|levels|dense_stages)\.(\d+)\.(?:blocks|layers)\.(\d+)\."),
    re.compile(r"(?:stages|layers|levels|blocks|block)\.(\d+)\.(\d+)\."),
    re.compile(r"(?:layer|stage|s)(\d+)\.b?(\d+)\."),
    re.compile(r"blocks\.(\d+)\."),
)
_STAGE = re.compile(r"(?:stages|layers|levels|dense_stages|blocks|block)\.(\d+)\.|(?:layer|stage|s)(\d+)\.")
_MERGE = re.compile(r"downsample|merg|transition|patch_embed|^(stages|levels)\.\d+\.(conv|pool)\.")
Place = tuple[int, float]


def is_wrapped(network: nn.Module) -> bool:
    """Whether it is one of timm's feature extractors, which may end before the last stage."""
    return isinstance(network, _WRAPPERS)


def find_networks(model: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The networks of timm in a model, outermost ones only, with what stands before their names."""
    of_timm = type(model).__module__.startswith("timm.models.") and hasattr(model, "feature_info")
    if of_timm or is_wrapped(model):
        yield prefix, model
        return
    for name, child in model.named_children():
        yield from find_networks(child, f"{prefix}{name}.")


def plain_name(name: str) -> str:
    """A name inside a wrapper as the whole network has it; a plain one stays."""
    name = re.sub(r"^(model|body)\.", "", name)
    return re.sub(r"^([a-z]+(?:_[a-z]+)*)_(\d+)(?=\.)", r"\1.\2", re.sub(r"^features_", "features.", name))


def canonical(name: str) -> str:
    """A form that is the same for all spellings of a name; for comparison only."""
    return plain_name(name).replace("_", ".")


def block_of(name: str) -> Place | None:
    """Where a plain name stands: (stage, block), or (stage, -1) for what leads into a stage and
    (stage, infinity) for what ends it; None outside of the stages. The stage of a plain list is always 0."""
    for pattern in _BLOCKS[:3]:
        if match := pattern.match(name):
            return int(match[1]), int(match[2])
    if match := _BLOCKS[3].match(name):
        return 0, int(match[1])
    if match := _STAGE.match(name):
        return int(match[1] or match[2]), -1 if _MERGE.search(name) else float("inf")
    return None


def places(names: list[str]) -> dict[str, Place | None]:
    """:func:`block_of` of each plain name; a list of blocks that is named as EfficientNet names its stages
    stays a list."""
    found = {name: block_of(name) for name in names}
    numbers = {n.split(".")[2] for n in names if re.match(r"blocks\.\d+\.", n)}
    if not all(part.isdigit() for part in numbers):  # blocks.3.attn. ..., not blocks.3.0. ...
        for name in names:
            if match := _BLOCKS[3].match(name):
                found[name] = 0, int(match[1])
    return found


def layer_ids(names: list[str], count_merges: bool = False) -> tuple[dict[str, int], int] | None:
    """Depths of the parameters of a network, in its own order, for learning rates by layer.

    0 for the patch embedding, positions and tokens; the blocks count from 1 on over all stages; what leads
    into a stage has the number of the block before it, or one of its own with ``count_merges``; what ends a
    stage that of its last block; what stands behind the blocks gets the last number.

    Args:
        names: as the network has them, wrapped or plain.

    Returns:
        Numbers by name and the last number; None where the network names no blocks in a known way.
    """
    plain = {name: plain_name(name) for name in names}
    found = places(list(plain.values()))
    inside = {p for p in found.values() if p is not None}
    blocks = sorted(p for p in inside if 0 <= p[1] < float("inf"))
    if not blocks:
        return None
    counted = sorted({*blocks, *(p for p in inside if count_merges and p[1] == -1 and p > blocks[0])})
    first = next(i for i, name in enumerate(names) if found[plain[name]] in blocks)
    last = len(counted) + 1
    ids = {}
    for position, name in enumerate(names):
        place = found[plain[name]]
        if place is None:
            ids[name] = 0 if position < first else last
        else:
            ids[name] = sum(p <= place for p in counted)
    return ids, last

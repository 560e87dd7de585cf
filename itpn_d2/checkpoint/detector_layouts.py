"""The public layouts of DINO (detrex, official) and of Mask DINO (official), as rules.

What they hold under several names, since modules share it, has one here. What stands in another order
(levels, the channels of a query's position) is put in ours by :mod:`.detectors`.
"""

from dataclasses import dataclass

from .rules import Rule, RuleSet

# a box head of three layers, and any network of two, in theirs and in torchvision's MLP
_THREE = (("0", "0"), ("1", "3"), ("2", "6"))
_TWO = (("0", "0"), ("1", "3"))


@dataclass(frozen=True)
class DetectorLayout:
    """One way to name a detector.

    Attributes:
        name: as in ``reference=``.
        mark: a name that only this layout has, without what may stand before it.
        rules: without that prefix.
        aliases: beginnings of names of what the rules take from elsewhere.
    """

    name: str
    mark: str
    rules: RuleSet
    aliases: tuple[str, ...]


def _mlp(official: str, ours: str, layers: tuple[tuple[str, str], ...]) -> list[Rule]:
    return [Rule(f"{official}.layers.{a}.{{p}}", f"{ours}.{b}.{{p}}") for a, b in layers]


def _attention(official: str, ours: str) -> list[Rule]:
    pairs = (
        ("sampling_offsets", "offsets"),
        ("attention_weights", "weights"),
        ("value_proj", "value"),
        ("output_proj", "proj"),
    )
    return [Rule(f"{official}.{a}.{{p}}", f"{ours}.{b}.{{p}}") for a, b in pairs]


def _self_attention(official: str, ours: str) -> list[Rule]:
    return [
        Rule(f"{official}.in_proj_{{p}}", f"{ours}.in_proj_{{p}}"),
        Rule(f"{official}.out_proj.{{p}}", f"{ours}.out_proj.{{p}}"),
    ]


def _official_encoder(official: str) -> list[Rule]:
    there, ours = f"{official}.layers.{{i}}", "encoder.layers.{i}"
    return [
        *_attention(f"{there}.self_attn", f"{ours}.attention"),
        Rule(f"{there}.norm1.{{p}}", f"{ours}.norm1.{{p}}"),
        Rule(f"{there}.linear1.{{p}}", f"{ours}.feed_forward.0.{{p}}"),
        Rule(f"{there}.linear2.{{p}}", f"{ours}.feed_forward.3.{{p}}"),
        Rule(f"{there}.norm2.{{p}}", f"{ours}.norm2.{{p}}"),
    ]


def _official_decoder(official: str) -> list[Rule]:
    """The norms are numbered as the attentions were in Deformable DETR; the second comes first."""
    there, ours = f"{official}.layers.{{i}}", "decoder.layers.{i}"
    return [
        *_self_attention(f"{there}.self_attn", f"{ours}.self_attention"),
        Rule(f"{there}.norm2.{{p}}", f"{ours}.norm1.{{p}}"),
        *_attention(f"{there}.cross_attn", f"{ours}.attention"),
        Rule(f"{there}.norm1.{{p}}", f"{ours}.norm2.{{p}}"),
        Rule(f"{there}.linear1.{{p}}", f"{ours}.feed_forward.0.{{p}}"),
        Rule(f"{there}.linear2.{{p}}", f"{ours}.feed_forward.3.{{p}}"),
        Rule(f"{there}.norm3.{{p}}", f"{ours}.norm3.{{p}}"),
        *_mlp(f"{official}.ref_point_head", "decoder.position", _TWO),
    ]


def _detrex() -> list[Rule]:
    encoder, decoder = "transformer.encoder.layers.{i}", "transformer.decoder.layers.{i}"
    rules = [
        Rule("neck.convs.{i}.conv.{p}", "neck.project.{i}.0.{p}"),
        Rule("neck.convs.{i}.norm.{p}", "neck.project.{i}.1.{p}"),
        Rule("neck.extra_convs.{i}.conv.{p}", "neck.extra.{i}.0.{p}"),
        Rule("neck.extra_convs.{i}.norm.{p}", "neck.extra.{i}.1.{p}"),
        Rule("transformer.level_embeds", "encoder.level"),
        *_attention(f"{encoder}.attentions.0", "encoder.layers.{i}.attention"),
        *_self_attention(f"{decoder}.attentions.0.attn", "decoder.layers.{i}.self_attention"),
        *_attention(f"{decoder}.attentions.1", "decoder.layers.{i}.attention"),
    ]
    for there, ours, norms in ((encoder, "encoder", 2), (decoder, "decoder", 3)):
        rules += [
            Rule(f"{there}.ffns.0.layers.0.0.{{p}}", f"{ours}.layers.{{i}}.feed_forward.0.{{p}}"),
            Rule(f"{there}.ffns.0.layers.1.{{p}}", f"{ours}.layers.{{i}}.feed_forward.3.{{p}}"),
        ]
        rules += [
            Rule(f"{there}.norms.{k}.{{p}}", f"{ours}.layers.{{i}}.norm{k + 1}.{{p}}") for k in range(norms)
        ]
    return [
        *rules,
        *_mlp("transformer.decoder.ref_point_head", "decoder.position", _TWO),
        Rule("transformer.decoder.norm.{p}", "decoder.norm.{p}"),
        *_selection("transformer"),
        Rule("transformer.tgt_embed.weight", "content.weight"),
        Rule("class_embed.{i}.{p}", "class_head.{i}.{p}"),
        *_mlp("bbox_embed.{i}", "decoder.box_head.{i}", _THREE),
        Rule("label_enc.weight", "denoising.labels.weight"),
    ]


def _selection(official: str) -> list[Rule]:
    return [
        Rule(f"{official}.enc_output.{{p}}", "selection.proj.{p}"),
        Rule(f"{official}.enc_output_norm.{{p}}", "selection.norm.{p}"),
    ]


def _dino() -> list[Rule]:
    return [
        # which of them are extra levels is decided by their kernels
        Rule("input_proj.{i}.{k}.{p}", "neck.project.{i}.{k}.{p}"),
        Rule("transformer.level_embed", "encoder.level"),
        *_official_encoder("transformer.encoder"),
        *_official_decoder("transformer.decoder"),
        Rule("transformer.decoder.norm.{p}", "decoder.norm.{p}"),
        *_selection("transformer"),
        Rule("transformer.enc_out_class_embed.{p}", "selection.class_head.{p}"),
        *_mlp("transformer.enc_out_bbox_embed", "selection.box_head", _THREE),
        Rule("transformer.tgt_embed.weight", "content.weight"),
        Rule("transformer.refpoint_embed.weight", "anchors.weight"),
        Rule("class_embed.{i}.{p}", "class_head.{i}.{p}"),
        *_mlp("bbox_embed.{i}", "decoder.box_head.{i}", _THREE),
        Rule("label_enc.weight", "denoising.labels.weight"),
    ]


def _mask_dino() -> list[Rule]:
    pixel, queries = "pixel_decoder", "predictor"
    return [
        Rule(f"{pixel}.input_proj.{{i}}.{{k}}.{{p}}", "neck.project.{i}.{k}.{p}"),
        Rule(f"{pixel}.transformer.level_embed", "encoder.level"),
        *_official_encoder(f"{pixel}.transformer.encoder"),
        Rule(f"{pixel}.adapter_1.norm.{{p}}", "pixel_features.lateral.1.{p}"),
        Rule(f"{pixel}.adapter_1.weight", "pixel_features.lateral.0.weight"),
        Rule(f"{pixel}.layer_1.norm.{{p}}", "pixel_features.mix.1.{p}"),
        Rule(f"{pixel}.layer_1.weight", "pixel_features.mix.0.weight"),
        Rule(f"{pixel}.mask_features.{{p}}", "pixel_features.proj.{p}"),
        *_official_decoder(f"{queries}.decoder"),
        Rule(f"{queries}.decoder_norm.{{p}}", "decoder.norm.{p}"),
        *_selection(queries),
        Rule(f"{queries}.query_feat.weight", "content.weight"),
        Rule(f"{queries}.query_embed.weight", "anchors.weight"),
        Rule(f"{queries}.class_embed.{{p}}", "class_head.{p}"),
        *_mlp(f"{queries}._bbox_embed", "decoder.box_head", _THREE),
        *_mlp(f"{queries}.mask_embed", "mask_head", _THREE),
        Rule(f"{queries}.label_enc.weight", "denoising.labels.weight"),
    ]


_HEADS = ("transformer.decoder.class_embed.", "transformer.decoder.bbox_embed.")
_ENCODER = "transformer.encoder.layers.0.self_attn.sampling_offsets.weight"
DETREX = DetectorLayout("detrex", "transformer.level_embeds", RuleSet(_detrex()), _HEADS)
OFFICIAL_DINO = DetectorLayout("dino", _ENCODER, RuleSet(_dino()), _HEADS)
MASK_DINO = DetectorLayout(
    "maskdino",
    f"pixel_decoder.{_ENCODER}",
    RuleSet(_mask_dino()),
    ("predictor.bbox_embed.", "predictor.decoder.bbox_embed.", "predictor.decoder.norm."),
)
DETECTORS = (DETREX, MASK_DINO, OFFICIAL_DINO)  # the last one's mark ends like the second one's

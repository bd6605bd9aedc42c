"""Models of images and sound that the list lacks, chosen for what is hard about each."""

from functools import partial
from typing import Any

from tests.models.audio import WAVE, waves
from tests.models.entry import Entry, Given, reals, tokens
from tests.models.hugging_face import ROWS, SIZES, made
from tests.models.vision import PATCHES, images, labelled


def _entry(
    name: str, config: dict[str, Any], inputs: Any, two: str, four: Any = (), inside: str = "", **more: Any
) -> Entry:
    return Entry(name, partial(made, name, config), inputs, (two,), tuple(four), (inside,) if inside else (), **more)


def _maps(seed: int) -> Given:
    return (images(seed),), {"labels": tokens(seed + 1, ROWS, 32 * 32, 5, 0).view(ROWS, 32, 32)}


def _masked_patches(seed: int) -> Given:
    return (images(seed),), {"noise": reals(seed + 1, ROWS, 16)}


def _numbered(prefix: str, numbers: tuple[int, ...] = (1, 2, 3)) -> tuple[str, ...]:
    return tuple(f"{prefix}.{i}" for i in numbers)


_SWIN = {**PATCHES, "patch_size": 2, "embed_dim": 16, "depths": [2, 2], "num_heads": [2, 4], "window_size": 4}
_CONVNEXT = {"hidden_sizes": [8, 16, 24, 32], "depths": [1, 1, 2, 1], "image_size": 32}
_SEGFORMER = {
    "hidden_sizes": [8, 16, 24, 32],
    "depths": [1, 1, 1, 1],
    "num_attention_heads": [1, 2, 2, 4],
    "decoder_hidden_size": 16,
    "num_labels": 5,
}
_MAE = {
    **PATCHES,
    "hidden_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "decoder_hidden_size": 16,
    "decoder_num_hidden_layers": 2,
    "decoder_num_attention_heads": 4,
    "decoder_intermediate_size": 32,
}
_FLAT = {n: v for n, v in SIZES.items() if n != "use_cache"}

VISION = (
    _entry(
        "SwinForImageClassification",
        _SWIN,
        labelled,
        "swin.encoder.layers.1",
        ("swin.encoder.layers.0.blocks.1", "swin.encoder.layers.1", "swin.encoder.layers.1.blocks.1"),
        "swin.encoder.layers.1.blocks.0.mlp",
        why="shifted windows",
    ),
    _entry(
        "ConvNextForImageClassification",
        _CONVNEXT,
        labelled,
        "convnext.encoder.stages.2",
        _numbered("convnext.encoder.stages"),
        "convnext.encoder.stages.2.layers.1.pwconv1",
        why="channels last",
    ),
    _entry(
        "SegformerForSemanticSegmentation",
        _SEGFORMER,
        _maps,
        "segformer.stages.2",
        _numbered("segformer.stages"),
        "segformer.stages.2.blocks.0.mlp",
        why="all stages' outputs go into the head",
    ),
    _entry(
        "ViTMAEForPreTraining",
        _MAE,
        _masked_patches,
        "vit.layers.2",
        _numbered("vit.layers"),
        "vit.layers.2.mlp",
        why="drops patches by sorting",
    ),
    _entry(
        "Dinov2ForImageClassification",
        {**_FLAT, **PATCHES},
        labelled,
        "dinov2.encoder.layer.2",
        _numbered("dinov2.encoder.layer"),
        "dinov2.encoder.layer.2.mlp",
        why="scaled layers",
    ),
    _entry(
        "MobileViTForImageClassification",
        {
            "hidden_sizes": [16, 24, 32],
            "neck_hidden_sizes": [8, 8, 8, 16, 16, 16, 32],
            "num_attention_heads": 4,
            "image_size": 64,
        },
        labelled,
        "mobilevit.encoder.layer.2",
        (),
        "",
        why="convolutions and attention",
    ),
)

AUDIO = (
    _entry(
        "HubertForCTC",
        {**SIZES, **WAVE},
        waves,
        "hubert.encoder.layers.2",
        _numbered("hubert.encoder.layers"),
        "hubert.encoder.layers.2.feed_forward",
        why="weights computed from parameters",
    ),
)

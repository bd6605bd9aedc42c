"""Models of images."""

from functools import partial

from torch import Tensor

from tests.models.entry import Entry, Given, padded, reals, tokens
from tests.models.hugging_face import LENGTH, ROWS, SIZES, layered, made

SIDE = 32
PATCHES = {"image_size": SIDE, "patch_size": 8, "num_channels": 3}


def images(seed: int, rows: int = ROWS) -> Tensor:
    """`float32[rows, 3, 32, 32]`."""
    return reals(seed, rows, 3, SIDE, SIDE)


def labelled(seed: int, rows: int = ROWS) -> Given:
    """Images, by position, and a class for each."""
    return (images(seed, rows),), {"labels": tokens(seed + 1, rows, 1, 2, 0).flatten()}


def _with_text(seed: int) -> Given:
    given = {"input_ids": tokens(seed, 4, LENGTH), "pixel_values": images(seed + 1, 4)}
    return (), given | {"attention_mask": padded(4, LENGTH), "return_loss": True}


_TWO_LAYERS = {**{n: v for n, v in SIZES.items() if n != "use_cache"}, "num_hidden_layers": 2}
_CLIP = {"text_config": _TWO_LAYERS, "vision_config": {**_TWO_LAYERS, **PATCHES}, "projection_dim": 16}
_STAGES = {"embedding_size": 16, "hidden_sizes": [16, 24, 32, 40], "depths": [1, 1, 1, 1], "layer_type": "basic"}

VISION = (
    Entry(
        "ViTForImageClassification",
        partial(made, "ViTForImageClassification", {**SIZES, **PATCHES}),
        labelled,
        **layered("vit.layers", "layernorm_after"),
    ),
    Entry(
        "CLIPModel",
        partial(made, "CLIPModel", _CLIP),
        _with_text,
        ("text_model.encoder.layers.1",),
        inside=("text_model.encoder.layers.1.mlp",),
        rows=4,
        why="two towers; the loss compares rows",
    ),
    Entry(
        "ResNetForImageClassification",
        partial(made, "ResNetForImageClassification", _STAGES),
        labelled,
        ("resnet.encoder.stages.1",),
        tuple(f"resnet.encoder.stages.{i}" for i in (1, 2, 3)),
        ("resnet.encoder.stages.2.layers.0.layer.1",),
    ),
)

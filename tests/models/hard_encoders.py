"""Encoders that the list lacks, chosen for what is hard about each."""

from functools import partial

from tests.models.entry import Entry, Given, tokens
from tests.models.hugging_face import LENGTH, ROWS, made, text, text_inputs


def _classes(seed: int) -> Given:
    args, given = text_inputs(seed)
    return args, given | {"labels": tokens(seed + 1, ROWS, LENGTH, 2, 0)}


ENCODERS = (
    text("ModernBertForMaskedLM", "model.layers", "mlp", local_attention=8, why="local and global layers"),
    text(
        "FlaubertWithLMHeadModel", "transformer.attentions", "", emb_dim=32, n_layers=4, n_heads=4, why="lists of parts"
    ),
    text("BigBirdForMaskedLM", "bert.encoder.layer", "intermediate", attention_type="original_full", why="sparse"),
    text("FNetForMaskedLM", "fnet.encoder.layer", "intermediate", why="complex numbers"),
    text(
        "DebertaV2ForMaskedLM", "deberta.encoder.layer", "intermediate", relative_attention=True, why="scripted parts"
    ),
    Entry(
        "FunnelForMaskedLM",
        partial(
            made,
            "FunnelForMaskedLM",
            {
                "vocab_size": 99,
                "d_model": 32,
                "n_head": 4,
                "d_head": 8,
                "d_inner": 64,
                "block_sizes": [2, 2],
                "pad_token_id": 0,
            },
        ),
        text_inputs,
        ("funnel.encoder.blocks.1",),
        ("funnel.encoder.blocks.0.1", "funnel.encoder.blocks.1", "funnel.encoder.blocks.1.1"),
        ("funnel.encoder.blocks.1.0.ffn",),
        why="pools over time",
    ),
    text("MobileBertForMaskedLM", "mobilebert.encoder.layer", "intermediate", embedding_size=32, why="bottlenecks"),
    text(
        "CanineForTokenClassification",
        "canine.encoder.layer",
        "intermediate",
        inputs=_classes,
        num_hash_buckets=64,
        local_transformer_stride=8,
        why="hashes of characters",
    ),
    text("RoFormerForMaskedLM", "roformer.encoder.layer", "intermediate", why="rotary positions"),
    text("ConvBertForMaskedLM", "convbert.encoder.layer", "intermediate", why="convolutions made by the tokens"),
)

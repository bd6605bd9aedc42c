"""Models with a state that goes through time, in other ways than the list's Mamba."""

from functools import partial
from typing import Any

from tests.models.entry import Entry
from tests.models.hugging_face import SIZES, layered, made, text, text_inputs

_MAMBA2: dict[str, Any] = {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1, "expand": 2, "chunk_size": 8}
_JAMBA: dict[str, Any] = {
    **{"attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "expert_layer_offset": 1},
    **{"num_experts": 4, "mamba_d_state": 8, "mamba_dt_rank": 4, "num_key_value_heads": 2},
}
_NEXT: dict[str, Any] = {
    **{"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 8},
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    **{"shared_expert_intermediate_size": 16, "num_key_value_heads": 2},
}
_BAMBA: dict[str, Any] = {
    **{"mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_chunk_size": 8},
    **{"attn_layer_indices": [1, 3], "num_key_value_heads": 2},
}
_RWKV: dict[str, Any] = {**SIZES, "attention_hidden_size": 32, "context_length": 32}

RECURRENT = (
    text("Mamba2ForCausalLM", "backbone.layers", "mixer", **_MAMBA2, why="a chunked scan"),
    Entry(
        "RwkvForCausalLM, training",
        lambda: made("RwkvForCausalLM", _RWKV).train(),  # in evaluation mode it divides its own parameters
        partial(text_inputs, mask=False, length=8),
        why="a recurrence with a scale of its own",
        **layered("rwkv.blocks", "feed_forward"),
    ),
    text(
        "RecurrentGemmaForCausalLM",
        "model.layers",
        "mlp_block",
        attention_window_size=8,
        lru_width=32,
        why="a gated recurrence with a custom function",
    ),
    text("JambaForCausalLM", "model.layers", "feed_forward", **_JAMBA, why="scans, attention and experts"),
    text("Qwen3NextForCausalLM", "model.layers", "mlp", **_NEXT, why="a gated delta rule"),
    text("BambaForCausalLM", "model.layers", "feed_forward", **_BAMBA, why="scans and attention"),
)

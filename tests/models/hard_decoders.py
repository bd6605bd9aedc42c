"""Decoders that the list lacks, chosen for what is hard about each: experts, masks, positions."""

from typing import Any

from tests.models.hugging_face import text

_LAYERS, _HEADS = "model.layers", {"num_key_value_heads": 2}
_ROUTED: dict[str, Any] = {"num_experts": 4, "moe_intermediate_size": 16, "num_experts_per_tok": 2, "head_dim": 8}
_DEEPSEEK: dict[str, Any] = {
    **{"n_routed_experts": 4, "n_group": 2, "topk_group": 1, "n_shared_experts": 1, "first_k_dense_replace": 1},
    **{"kv_lora_rank": 8, "q_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8},
    **{"moe_intermediate_size": 16, "num_experts_per_tok": 2, "num_key_value_heads": 4},
}
_GEMMA3: dict[str, Any] = {
    "head_dim": 8,
    "sliding_window": 8,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
    **_HEADS,
}
_GPT_OSS: dict[str, Any] = {"num_local_experts": 4, "head_dim": 8, "sliding_window": 8, **_HEADS}
_GPTJ: dict[str, Any] = {"n_embd": 32, "n_layer": 4, "n_head": 4, "rotary_dim": 8}
_FALCON: dict[str, Any] = {"alibi": True, "new_decoder_architecture": False}

DECODERS = (
    text("Qwen3MoeForCausalLM", _LAYERS, "mlp", **_ROUTED, **_HEADS, why="routed experts"),
    text("DeepseekV3ForCausalLM", _LAYERS, "mlp", **_DEEPSEEK, why="groups of experts, latent attention"),
    text("OlmoeForCausalLM", _LAYERS, "mlp", num_experts=4, num_experts_per_tok=2, why="routed experts"),
    text("GptOssForCausalLM", _LAYERS, "mlp", **_GPT_OSS, why="attention sinks, experts with biases"),
    text("Gemma3ForCausalLM", _LAYERS, "mlp", **_GEMMA3, why="two masks and two rotary tables"),
    text("Phi3ForCausalLM", _LAYERS, "mlp", **_HEADS, why="fused projections"),
    text("FalconForCausalLM", "transformer.h", "mlp", **_FALCON, why="alibi"),
    text("GPTJForCausalLM", "transformer.h", "mlp", **_GPTJ, why="rotary tables that are gathered"),
    text("MptForCausalLM", "transformer.blocks", "ffn", d_model=32, n_heads=4, n_layers=4, why="alibi"),
)

"""Models of text: those of the list that predict tokens from tokens."""

from tests.models.entry import Entry, Given, padded, tokens
from tests.models.hugging_face import LENGTH, ROWS, boxes, pair, text, text_inputs


def _with_boxes(seed: int) -> Given:
    args, given = text_inputs(seed)
    return args, given | {"bbox": boxes(seed + 2), "labels": tokens(seed + 1, ROWS, LENGTH, 2, 0)}


def _yes_or_no(seed: int) -> Given:
    """The loss picks the tokens that are no padding by their mask: as many in each row, at other places."""
    mask = padded(ROWS, LENGTH)
    mask[0] = mask[1].flip(0)
    labels = tokens(seed + 1, ROWS, LENGTH, 2, 0)
    return (), {"input_ids": tokens(seed, ROWS, LENGTH), "attention_mask": mask, "labels": labels}


_T5 = {"d_kv": 8, "d_ff": 64, "num_layers": 2, "num_decoder_layers": 2, "decoder_start_token_id": 0, "num_heads": 4}
_T5 |= {"vocab_size": 99, "d_model": 32, "use_cache": False, "pad_token_id": 0}
_XLNET = {"vocab_size": 99, "d_model": 32, "n_layer": 4, "n_head": 4, "d_inner": 64, "use_mems_eval": False}
_HEADS = {"num_key_value_heads": 2}
_BART = ("model.encoder.layers.1", "model.decoder", "model.decoder.layers.1")

ENCODERS = (
    text("BertForMaskedLM", "bert.encoder.layer", "intermediate"),
    text("RobertaForMaskedLM", "roberta.encoder.layer", "intermediate"),
    text("DistilBertForMaskedLM", "distilbert.transformer.layer", "ffn", dim=32, n_layers=4, n_heads=4, hidden_dim=64),
    Entry(
        "AlbertForMaskedLM",
        text("AlbertForMaskedLM", "", embedding_size=16).build,
        text_inputs,
        ("albert.encoder.albert_layer_groups.0",),
        inside=("albert.encoder.albert_layer_groups.0.albert_layers.0.ffn",),
        why="one layer that is called four times",
    ),
    text("ElectraForPreTraining", "electra.encoder.layer", "intermediate", inputs=_yes_or_no, embedding_size=16),
    text("DebertaForMaskedLM", "deberta.encoder.layer", "intermediate", relative_attention=True, pos_att_type=["c2p"]),
    text("LayoutLMForTokenClassification", "layoutlm.encoder.layer", "intermediate", inputs=_with_boxes),
    text("LongformerForMaskedLM", "longformer.encoder.layer", "intermediate", attention_window=8, why="reads its mask"),
)
"""Read all tokens at once."""

DECODERS = (
    text("GPT2LMHeadModel", "transformer.h", "mlp", n_embd=32, n_layer=4, n_head=4, n_positions=64),
    text("XLNetLMHeadModel", "transformer.layer", "ff", sizes=_XLNET),
    text("OPTForCausalLM", "model.decoder.layers", "fc1", ffn_dim=64, word_embed_proj_dim=32),
    text("XGLMForCausalLM", "model.layers", "fc1", d_model=32, num_layers=4, attention_heads=4, ffn_dim=64),
    text("LlamaForCausalLM", "model.layers", "mlp", **_HEADS),
    text("MistralForCausalLM", "model.layers", "mlp", sliding_window=8, **_HEADS),
    text("MixtralForCausalLM", "model.layers", "mlp", num_local_experts=4, **_HEADS, why="mixture of experts"),
    text("Qwen2ForCausalLM", "model.layers", "mlp", **_HEADS),
    text("Gemma2ForCausalLM", "model.layers", "mlp", head_dim=8, sliding_window=8, **_HEADS),
    text("GPTNeoXForCausalLM", "gpt_neox.layers", "mlp"),
    text("BloomForCausalLM", "transformer.h", "mlp", n_layer=4, n_head=4),
    text("MambaForCausalLM", "backbone.layers", "mixer", state_size=8, why="a scan over time"),
)
"""Predict the next token."""

PAIRS = (
    pair(
        "T5ForConditionalGeneration",
        "decoder.block.1",
        ("encoder.block.1", "decoder", "decoder.block.1"),
        "decoder.block.1.layer.1",
        sizes=_T5,
    ),
    pair("BartForConditionalGeneration", "model.decoder.layers.1", _BART, "model.decoder.layers.1.fc1"),
    pair("MBartForConditionalGeneration", "model.decoder", _BART, "model.decoder.layers.1.fc1"),
)
"""An encoder and a decoder."""

TEXT = (*ENCODERS, *DECODERS, *PAIRS)

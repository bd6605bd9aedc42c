"""Encoders with decoders that the list lacks, chosen for what is hard about each."""

from typing import Any

import torch

from tests.models.entry import Given, reals
from tests.models.hugging_face import HALVES, ROWS, pair


def _forecast(seed: int) -> Given:
    past, future = 20, 4
    return (), {
        "past_values": reals(seed, ROWS, past),
        "past_time_features": reals(seed + 1, ROWS, past, 2),
        "past_observed_mask": torch.ones(ROWS, past, dtype=torch.bool),
        "future_values": reals(seed + 2, ROWS, future),
        "future_time_features": reals(seed + 3, ROWS, future, 2),
    }


_LED = {
    **HALVES,
    "attention_window": [8, 8],
    "max_encoder_position_embeddings": 64,
    "max_decoder_position_embeddings": 64,
}
_SERIES = {**HALVES, "prediction_length": 4, "context_length": 13, "num_time_features": 2, "lags_sequence": [1, 2, 7]}
_BART = ("model.encoder.layers.1", "model.decoder", "model.decoder.layers.1")
_LONG_T5: dict[str, Any] = {
    **{"vocab_size": 99, "d_model": 32, "d_kv": 8, "d_ff": 64, "num_heads": 4, "local_radius": 4},
    **{"num_layers": 2, "num_decoder_layers": 2, "use_cache": False, "decoder_start_token_id": 0, "pad_token_id": 0},
}
_T5 = ("encoder.block.1", "decoder", "decoder.block.1")

PAIRS = (
    pair(
        "LEDForConditionalGeneration",
        "led.decoder",
        ("led.encoder.layers.1", "led.decoder", "led.decoder.layers.1"),
        "led.decoder.layers.1.fc1",
        sizes=_LED,
        why="windows, and padding made from the mask",
    ),
    pair("PegasusForConditionalGeneration", "model.decoder", _BART, "model.decoder.layers.1.fc1", why="sinusoids"),
    pair(
        "LongT5ForConditionalGeneration",
        "decoder",
        _T5,
        "decoder.block.1.layer.1",
        sizes=_LONG_T5,
        why="blocks of attention",
    ),
    pair(
        "TimeSeriesTransformerForPrediction",
        "model.decoder",
        _BART,
        "model.decoder.layers.1.fc1",
        sizes=_SERIES,
        inputs=_forecast,
        why="a distribution as its output",
    ),
)

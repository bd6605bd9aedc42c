"""Models of sound."""

from functools import partial

from tests.models.entry import Entry, Given, padded, reals, tokens
from tests.models.hugging_face import HALVES, ROWS, SIZES, layered, made

SAMPLES, FRAMES = 800, 40
WAVE = {
    "conv_dim": [32, 32, 32],
    "conv_stride": [5, 2, 2],
    "conv_kernel": [10, 3, 3],
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}


def waves(seed: int) -> Given:
    """Waveforms of which every other one ends early, and labels; the loss picks labels by their value."""
    mask = padded(ROWS, SAMPLES, 200)
    return (), {"input_values": reals(seed, ROWS, SAMPLES), "attention_mask": mask, "labels": tokens(seed + 1, ROWS, 5)}


def _spectra(seed: int) -> Given:
    return (), {"input_features": reals(seed, ROWS, 16, FRAMES), "labels": tokens(seed + 1, ROWS, 12)}


_WHISPER = {**HALVES, "num_mel_bins": 16, "max_source_positions": FRAMES // 2, "max_target_positions": 32}

AUDIO = (
    Entry(
        "WhisperForConditionalGeneration",
        partial(made, "WhisperForConditionalGeneration", _WHISPER),
        _spectra,
        ("model.decoder.layers.1",),
        ("model.encoder.layers.1", "model.decoder", "model.decoder.layers.1"),
        ("model.decoder.layers.1.fc1",),
    ),
    Entry(
        "Wav2Vec2ForCTC",
        partial(made, "Wav2Vec2ForCTC", {**SIZES, **WAVE}),
        waves,
        why="a loss that picks labels by their value",
        **layered("wav2vec2.encoder.layers", "feed_forward"),
    ),
)

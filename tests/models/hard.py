"""Architectures that the list lacks, chosen for what is hard about each."""

from tests.models.hard_decoders import DECODERS
from tests.models.hard_encoders import ENCODERS
from tests.models.hard_pairs import PAIRS
from tests.models.hard_recurrent import RECURRENT
from tests.models.hard_vision import AUDIO, VISION

HARD = (*DECODERS, *RECURRENT, *ENCODERS, *PAIRS, *VISION, *AUDIO)

"""A container that torch knows, for a test with a second process."""

from dataclasses import dataclass
from typing import Any

import torch


@dataclass
class Pair:
    """Two trees."""

    x: Any
    y: Any


torch.export.register_dataclass(Pair)

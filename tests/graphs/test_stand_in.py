import torch

from funpipe import _compat
from funpipe._typing import TensorType
from funpipe.graphs.stand_in import fake_like, stand_in


def test_a_stand_in_has_the_type_and_no_memory():
    kind = TensorType((2, 3), (1, 2), torch.float64)
    fake = fake_like(kind, _compat.fake_mode())
    assert TensorType.of(fake) == kind
    assert _compat.is_fake(fake)


def test_several_results_and_none_have_their_shape():
    kind = TensorType((2,), (1,), torch.float32)
    first, (second, nothing) = stand_in((kind, (kind, None)), _compat.fake_mode())
    assert TensorType.of(first) == TensorType.of(second) == kind
    assert nothing is None

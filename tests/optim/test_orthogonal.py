import pytest
import torch

from funpipe.optim.orthogonal import orthogonalize

MUON = (3.4445, -4.7750, 2.0315)


@pytest.mark.parametrize("shape", [(4, 7), (7, 4), (5, 5)])
def test_singular_values_come_near_one(shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = torch.linalg.svdvals(orthogonalize(x, MUON, 8, 1e-7, torch.float64))
    assert found.min() > 0.6
    assert found.max() < 1.3


def test_a_zero_matrix_stays_zero():
    assert torch.equal(orthogonalize(torch.zeros(3, 3), MUON, 5, 1e-7, torch.bfloat16).float(), torch.zeros(3, 3))


def test_the_operator_is_whole():
    """Its fake form, and that it neither writes to its argument nor returns it."""
    arguments = (torch.randn(3, 4), *MUON, 5, 1e-7, torch.float32)
    torch.library.opcheck(
        torch.ops.funpipe_optim.orthogonalize.default, arguments, test_utils=("test_schema", "test_faketensor")
    )

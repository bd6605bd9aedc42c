import torch

from funpipe.interop.pipelining.microbatch import _CustomReducer, _LossReducer, sum_reducer


def test_a_fold_begins_with_its_initial_value_and_goes_in_order():
    digits = _CustomReducer(1, lambda so_far, value: 10 * so_far + value)
    assert digits.fold([2, 3]) == 123
    assert digits.init_value == 1 and digits.reduce_fn(1, 2) == 12


def test_sum_reducer_adds_losses():
    assert isinstance(sum_reducer, _LossReducer)
    assert sum_reducer.fold([torch.tensor(1.0), torch.tensor(2.5)]) == torch.tensor(3.5)

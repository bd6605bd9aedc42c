"""Sizes that a model computes with: another batch, another length, on every stage."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from funpipe.interop.pipelining import SplitPoint, pipe_split, pipeline
from funpipe.interop.pipelining.errors import PipeValueError
from funpipe.interop.pipelining.wiring import Argument


class Attention(nn.Module):
    """One head for each pair of features; reads its sizes off its input."""

    def __init__(self):
        super().__init__()
        self.project, self.out = nn.Linear(8, 24), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        q, k, v = self.project(x).view(batch, length, 3, 4, 2).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return x + self.out(y.transpose(1, 2).reshape(batch, length, width))


class Words(nn.Module):
    """Three layers; the last stage needs the product of two sizes, and returns one."""

    def __init__(self):
        super().__init__()
        self.words, self.places = nn.Embedding(10, 8), nn.Embedding(16, 8)
        self.layers = nn.ModuleList(Attention() for _ in range(3))

    def forward(self, ids: Tensor) -> tuple[Tensor, int]:
        batch, length = ids.shape
        x = self.words(ids) + self.places(torch.arange(length))
        for layer in self.layers:
            x = layer(x)
        return x.reshape(batch * length, 8), batch


@pytest.fixture(scope="module")
def cut():
    model = Words()
    spec = {"layers.0": SplitPoint.BEGINNING, "layers.2": SplitPoint.BEGINNING}
    return model, pipeline(model, (torch.zeros(2, 5, dtype=torch.long),), split_spec=spec)


@pytest.mark.parametrize("shape", [(2, 5), (7, 5), (2, 9), (3, 4), (1, 1)])
def test_sizes_may_differ_from_the_examples(cut, shape):
    model, pipe = cut
    ids = torch.arange(shape[0] * shape[1]).reshape(shape) % 10
    torch.testing.assert_close(pipe(ids), model(ids))


def test_sizes_are_read_again_and_not_sent(cut):
    _, pipe = cut
    assert pipe.wiring == ((Argument(None, 0),), (Argument(0, 0),), (Argument(1, 0),))


class Lost(nn.Module):
    """The second stage needs a size of the argument, which nothing that it gets has."""

    def forward(self, x: Tensor) -> Tensor:
        rows = x.shape[0]
        y = x.sum(0)
        pipe_split()
        return y / rows


def test_a_size_that_no_tensor_of_a_stage_has_is_sent_as_one():
    pipe = pipeline(Lost(), (torch.ones(4, 3),))
    assert pipe.wiring[1] == (Argument(0, 0), Argument(0, 1))
    assert pipe(torch.ones(9, 3))[0].tolist() == [1.0, 1.0, 1.0]


def test_a_number_taken_out_of_a_tensor_stays_on_its_stage():
    class Item(nn.Module):
        def forward(self, x):
            number = x.sum().item()
            pipe_split()
            return x * number

    with pytest.raises(PipeValueError, match=r"stage 1 needs a number that stage 0 takes out.*leave out the \.item"):
        pipeline(Item(), (torch.ones(4, 3),))


def test_a_model_that_is_traced_for_one_size_alone_says_so():
    @torch.library.custom_op("funpipe_tests::fixed", mutates_args=())
    def fixed(x: Tensor) -> Tensor:
        return x * 2

    @fixed.register_fake
    def _(x):
        if isinstance(x.shape[0], torch.SymInt):
            raise NotImplementedError("only numbers")
        return torch.empty_like(x)

    class Fixed(nn.Module):
        def forward(self, x):
            return fixed(x)

    with pytest.warns(UserWarning, match=r"fixed in the stages, because torch cannot trace Fixed for others: only"):
        pipe = pipeline(Fixed(), (torch.ones(4),))
    assert pipe(torch.ones(4))[0].tolist() == [2.0] * 4


def test_a_mark_before_the_first_operator_is_none_where_sizes_are_read():
    class Early(nn.Module):
        def forward(self, x):
            rows = x.shape[0]
            pipe_split()
            return x.view(rows * 2, -1)

    assert pipeline(Early(), (torch.ones(4, 6),)).num_stages == 1

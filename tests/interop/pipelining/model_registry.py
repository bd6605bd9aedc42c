"""Models for tests of pipelines: a block of two layers, tied parameters under two names, a keyword argument."""

import torch
from torch import Tensor, nn

from funpipe.interop.pipelining import pipe_split


class MLPModule(nn.Module):
    """Two linear layers with a ReLU between them; no stage ends inside."""

    def __init__(self, d_hid: int):
        super().__init__()
        self.net1 = nn.Linear(d_hid, d_hid)
        self.relu = nn.ReLU()
        self.net2 = nn.Linear(d_hid, d_hid)

    def forward(self, x: Tensor) -> Tensor:
        return self.net2(self.relu(self.net1(x)))


class ModelWithParamAlias(nn.Module):
    """Two stages that share everything: one matrix and one linear layer, each under two names."""

    def __init__(self, d_hid: int = 512):
        super().__init__()
        self.mm_param0 = self.mm_param1 = nn.Parameter(torch.randn(d_hid, d_hid))
        self.lin0 = self.lin1 = nn.Linear(d_hid, d_hid)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = torch.relu(self.lin0(torch.mm(x, self.mm_param0) + y))
        pipe_split()
        return torch.relu(self.lin1(torch.mm(x, self.mm_param1)))


class ModelWithKwargs(nn.Module):
    """Two stages; the first also takes a tensor `y` of as many rows, by position or by name."""

    DEFAULT_DHID = 512
    DEFAULT_BATCH_SIZE = 256

    def __init__(self, d_hid: int = DEFAULT_DHID):
        super().__init__()
        self.mm_param0 = nn.Parameter(torch.randn(d_hid, d_hid))
        self.mm_param1 = nn.Parameter(torch.randn(d_hid, d_hid))
        self.lin0 = nn.Linear(d_hid, d_hid)
        self.lin1 = nn.Linear(d_hid, d_hid)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = torch.relu(self.lin0(torch.mm(x, self.mm_param0) + y))
        pipe_split()
        return torch.relu(self.lin1(torch.mm(x, self.mm_param1)))

"""Keys in compiled code have the bits of the interpreter's, whatever the compiler knows of their range."""

import torch
from torch.fx.experimental.proxy_tensor import make_fx

import funpipe as fp
from funpipe._typing import TensorType
from funpipe.backends.inductor import Source, build
from funpipe.programs.keys import keys_of_step

SEEDS = [0, 5, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1, *(n * 0x9E3779B97F4A7C15 for n in range(1, 33))]


def keys(key: torch.Tensor, step: torch.Tensor, replica: torch.Tensor) -> tuple[torch.Tensor]:
    return (keys_of_step(key, step, replica, 3, ("microbatch", "0", "1")),)


def test_compiled_keys_have_the_same_bits():
    numbers = [torch.tensor(n) for n in range(3)]
    module = make_fx(keys, tracing_mode="fake")(*numbers)
    (code,) = build([Source("keys", module, (TensorType((), (), torch.int64, "cpu"),) * 3)])
    for i, seed in enumerate(SEEDS):
        arguments = [fp.random.key(seed), torch.tensor(i), torch.tensor(i % 3)]
        assert torch.equal(code.call(list(arguments))[0], keys(*arguments)[0]), seed

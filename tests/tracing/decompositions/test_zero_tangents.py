import torch
from torch.func import hessian, vmap

import funpipe as fp
from funpipe.functional.transformed import load_forward_mode

load_forward_mode()


def laplacian(params, batch):
    return vmap(hessian(lambda x: torch.tanh(x @ params + 1).sum()))(batch).square().mean()


def test_a_second_derivative_of_a_batch_is_traced():
    """Its tangents of "nothing" had the device meta, and the backward through them failed."""
    params, batch = torch.randn(3, 2), torch.randn(4, 3)
    found = fp.value_and_grad(laplacian, backend="interpret")(params, batch)
    grads, loss = torch.func.grad_and_value(laplacian)(params, batch)
    torch.testing.assert_close(found, (loss, grads))


def test_no_tensor_without_memory_is_left():
    traced = fp.trace(laplacian, torch.randn(3, 2), torch.randn(4, 3))
    assert not any("efficientzero" in str(node.target) for node in traced.graph.nodes)

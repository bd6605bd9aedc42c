"""Losses that use transforms of `torch.func` inside, over a chain of four layers with a mark behind each."""

import torch
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

import funpipe as fp

LAYERS = 4


def params_of(seed=0, dtype=torch.float64, layers=LAYERS):
    made = torch.Generator().manual_seed(seed)
    shapes = {"w": (4, 4), "b": (4,)}
    return {
        f"{i}.{name}": 0.5 * torch.randn(shape, generator=made, dtype=torch.float64).to(dtype)
        for i in range(layers)
        for name, shape in shapes.items()
    }


def batch_of(seed=1, rows=8, dtype=torch.float64):
    made = torch.Generator().manual_seed(seed)
    return {n: torch.randn(rows, 4, generator=made, dtype=torch.float64).to(dtype) for n in ("x", "y")}


def net(params, x):
    layers = len(params) // 2
    for i in range(layers):
        x = torch.tanh(x @ params[f"{i}.w"] + params[f"{i}.b"])
        if i < layers - 1:
            x = fp.mark_stage_end(x, name=f"layer{i}")
    return x


def plain(params, batch):
    return (net(params, batch["x"]) - batch["y"]).square().mean()


def maml(params, batch):
    def task(x, y):
        inner = grad(lambda p: (net(p, x[None]) - y).square().mean())(params)
        adapted = {n: p - 0.1 * inner[n] for n, p in params.items()}
        return (net(adapted, x[None]) - y).square().mean()

    return vmap(task)(batch["x"], batch["y"]).mean()


def maml_without_vmap(params, batch):
    inner = grad(plain)(params, batch)
    return plain({n: p - 0.1 * inner[n] for n, p in params.items()}, batch)


def per_sample_norms(params, batch):
    def one(p, x, y):
        return (net(p, x) - y).square().mean()

    grads = vmap(grad(one), (None, 0, 0))(params, batch["x"], batch["y"])
    return plain(params, batch) + torch.stack([g.square().flatten(1).sum(1).mean() for g in grads.values()]).sum()


def jacobian_penalty(params, batch):
    return plain(params, batch) + vmap(jacrev(net, 1), (None, 0))(params, batch["x"]).square().mean()


def forward_jacobian_penalty(params, batch):
    return plain(params, batch) + vmap(jacfwd(net, 1), (None, 0))(params, batch["x"]).square().mean()


def laplacian(params, batch):
    """The residual of a differential equation: second derivatives by the inputs."""
    second = vmap(hessian(lambda x: net(params, x).sum()))(batch["x"])
    return second.diagonal(dim1=1, dim2=2).sum(1).square().mean()


def directional(params, batch):
    out, tangent = jvp(lambda x: net(params, x), (batch["x"],), (batch["y"],))
    return (out.square() + tangent.square()).mean()


def pulled_back(params, batch):
    out, pull = vjp(lambda x: net(params, x), batch["x"])
    return out.square().mean() + pull(batch["y"])[0].square().mean()


def chunks(params, batch):
    def one(x, y):
        return (net(params, x) - y).square().mean()

    return vmap(one, in_dims=(1, 0), out_dims=0, chunk_size=2)(batch["x"].T, batch["y"]).mean()


class Normalized(torch.nn.Module):
    """Layers with a batch normalization, called by name."""

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(4, 4, dtype=torch.float64) for _ in range(LAYERS))
        self.norm = torch.nn.BatchNorm1d(4, track_running_stats=False, dtype=torch.float64)

    def forward(self, x):
        for i, layer in enumerate(self.layers):
            x = torch.tanh(layer(x)) if i != 1 else self.norm(layer(x))
        return x


MODULE = Normalized()


def called_module(params, batch):
    """A module within `grad`: its normalization sees the whole microbatch."""

    def fit(p):
        return (functional_call(MODULE, p, (batch["x"],)) - batch["y"]).square().mean()

    inner = grad(fit)(params)
    return fit({n: p - 0.1 * inner[n] for n, p in params.items()})


def module_params():
    made = torch.Generator().manual_seed(3)
    return {n: 0.5 * torch.randn(p.shape, generator=made, dtype=p.dtype) for n, p in MODULE.named_parameters()}


LOSSES = (
    maml,
    maml_without_vmap,
    per_sample_norms,
    jacobian_penalty,
    forward_jacobian_penalty,
    laplacian,
    directional,
    pulled_back,
    chunks,
)


def single_device(loss_fn, params, batch, microbatches):
    """The loss and its gradient by torch alone: the mean over the microbatches."""
    parts = fp.microbatch.split(batch, microbatches)
    found = [torch.func.grad_and_value(loss_fn)(params, part) for part in parts]
    grads = {n: torch.stack([g[n] for g, _ in found]).mean(0) for n in params}
    return torch.stack([loss for _, loss in found]).mean(), grads

"""Traces a part of a model by itself: its forward, and its backward from the gradients of what it returns.

A model that is traced whole is cut afterwards; here each part is somebody's own function, maybe in another process,
and all that is known of the others is what they exchange.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from funpipe import _compat
from funpipe._errors import FunpipeError
from funpipe._typing import TensorType
from funpipe.graphs.stand_in import fake_like
from funpipe.tracing.assemble import Assembly
from funpipe.tracing.decompositions import decomposing
from funpipe.tracing.fake import contiguous, in_rows
from funpipe.tracing.joint import forward_end
from funpipe.tracing.trace import failure, raw_graph, traced_of
from funpipe.tracing.traced import Traced
from funpipe.tracing.where import noting_where

Named = dict[str, Tensor]

INPUT = ".batch."
"""Begins the name of an input's gradient: no parameter of a module begins with a dot."""

PartFunction = Callable[[Named, Named, Named], tuple[Mapping[str, Tensor], Mapping[str, Tensor]]]
"""Takes parameters, buffers and inputs by name; returns outputs and new buffers by name."""


@dataclass(frozen=True)
class Leaf:
    """A tensor that a part takes or gives.

    Args:
        type: its type; of what is taken the strides are those of rows.
        trained: whether a gradient is wanted of it, or can be given for it.
    """

    type: TensorType
    trained: bool = False

    @staticmethod
    def of(tensor: Tensor, device: str | None = None) -> "Leaf":
        """That of a tensor, with rows for strides.

        Args:
            tensor: any.
            device: on another type of device.
        """
        kind = TensorType.of(tensor)
        return Leaf(contiguous(replace(kind, device=device or kind.device)), tensor.requires_grad)


@dataclass(frozen=True)
class Part:
    """A part of a model: a function and what it takes.

    Args:
        function: the function; pure but for what it does to the buffers that it is given.
        params, buffers, inputs: what it takes, by name.
        loss: the output, a scalar, that is differentiated; None: gradients of the outputs are given.
        during: runs the backward, for functions that compute again in it (`torch.utils.checkpoint`) what they read
            from parameters and buffers: it is given both, and what to call.
        random: whether it may draw numbers from torch's own generator.
        name: what it is called in errors.

    Example:
        >>> function = lambda params, buffers, inputs: ({"y": inputs["x"] @ params["w"]}, buffers)
        >>> w, x = torch.ones(3, 2, requires_grad=True), torch.ones(4, 3)
        >>> part = Part(function, {"w": Leaf.of(w)}, {}, {"x": Leaf.of(x)})
        >>> part.outputs()
        {'y': Leaf(type=TensorType(shape=(4, 2), stride=(2, 1), dtype=torch.float32, device='cpu'), trained=True)}
        >>> traced = part.trace({"y": ("next",)})
        >>> list(traced.batch), list(traced.gradients)
        (['x', 'gradient.y<-next'], ['w'])
    """

    function: PartFunction
    params: Mapping[str, Leaf]
    buffers: Mapping[str, Leaf]
    inputs: Mapping[str, Leaf]
    loss: str | None = None
    during: Callable[[Named, Named, Callable[[], list[Tensor]]], list[Tensor]] | None = None
    random: bool = False
    name: str = "the function"

    def outputs(self) -> dict[str, Leaf]:
        """What the part returns, found without computing anything; buffers are not among it.

        Raises:
            DataDependentError: the function reads a tensor's value.
            TraceError: it raised.
        """
        mode = _compat.fake_mode()
        given = [_fakes(leaves, mode) for leaves in (self.params, self.buffers, self.inputs)]
        try:
            with mode, decomposing(), torch.enable_grad(), _compat.without_compiling():
                outputs, _ = self.function(*given)
        except FunpipeError:
            raise
        except Exception as error:
            raise failure(error, self.name) from error
        return {name: Leaf.of(value) for name, value in outputs.items()}

    def trace(self, readers: Mapping[str, Sequence[str]] | None = None, differentiate: bool = True) -> Traced:
        """Traces the forward, and the backward from the gradients of the outputs.

        Args:
            readers: for each output those that read it and give a gradient for it; the sum of all is its gradient.
                Each is a leaf of the batch, `gradient.OUTPUT<-READER`.
            differentiate: False traces the forward alone.

        Returns:
            The graph. Its gradients are those of the trained parameters, by name, and those of the trained inputs, by
            `.batch.NAME`; each of these has one place, and is zero where nothing depends on the input.

        Raises:
            TraceError: as for `funpipe.trace`.
        """
        read = readers if readers and differentiate else {}
        found = self.outputs() if read else {}
        wanted = {n: tuple(by) for n, by in read.items() if found[n].trained}
        given = {gradient_of(n, reader): replace(found[n], trained=False) for n, by in wanted.items() for reader in by}
        return _traced(self, wanted, given, differentiate)


def gradient_of(output: str, reader: str) -> str:
    """The name of the batch leaf in which a reader gives its gradient of an output."""
    return f"gradient.{output}<-{reader}"


def _fakes(leaves: Mapping[str, Leaf], mode: object) -> Named:
    return {n: fake_like(leaf.type, mode).requires_grad_(leaf.trained) for n, leaf in leaves.items()}


def _traced(part: Part, readers: dict[str, tuple[str, ...]], given: dict[str, Leaf], differentiate: bool) -> Traced:
    leaves = [part.params, part.buffers, {**part.inputs, **given}]
    types = [{n: leaf.type for n, leaf in found.items()} for found in leaves]
    trained = {n for n, leaf in (*part.params.items(), *part.inputs.items()) if leaf.trained and differentiate}
    pullback = _Pullback(part, [list(found) for found in leaves], trained, readers)
    named = [(kind, n) for kind, found in zip(("param", "buffer", "batch"), types, strict=True) for n in found]
    device = next((t.device for found in types for t in found.values()), "cpu")
    raw, consts = raw_graph(pullback, types, named, device)
    made = Assembly(raw, [*named, *(("const", n) for n in consts)], random=part.random)
    frozen = frozenset(n for n, leaf in part.params.items() if not leaf.trained)
    return traced_of(made, pullback, types, frozen, consts)


@dataclass
class _Pullback:
    """Calls a part and differentiates it; remembers the names of what it returned.

    Args:
        part: the part.
        names: of its parameters, its buffers, and its inputs with the gradients that it is given.
        trained: the parameters and inputs to differentiate.
        readers: of each output.
    """

    part: Part
    names: list[list[str]]
    trained: set[str]
    readers: dict[str, tuple[str, ...]]
    outputs: list[str] = field(default_factory=list)
    reducers: dict[str, str] = field(default_factory=dict)
    differentiated: list[str] = field(default_factory=list)
    modules: tuple[str, ...] = ()
    what: str = ""

    def __post_init__(self) -> None:
        self.what = self.part.name

    def __call__(self, *given: list[Tensor]) -> list[Tensor]:
        params, buffers, batch = (dict(zip(n, v, strict=True)) for n, v in zip(self.names, given, strict=True))
        params = {n: leaf.detach().requires_grad_(n in self.trained) for n, leaf in params.items()}
        inputs = {n: batch[n].detach().requires_grad_(n in self.trained) for n in self.part.inputs}
        with torch.set_grad_enabled(bool(self.trained)), noting_where() as paths:
            outputs, new = self.part.function(params, dict(buffers), inputs)
        self.modules = tuple(paths.called)
        rows = {n: in_rows(value) for n, value in outputs.items()}
        results = rows | {f"buffer.{n}": leaf for n, leaf in new.items()}
        self.outputs = list(results)
        first, *others = (value.detach() for value in results.values())
        ended = forward_end(first)
        return [ended, *others, *self._during(params, buffers, lambda: self._gradients(outputs, params, inputs, batch))]

    def _during(self, params: Named, buffers: Named, backward: Callable[[], list[Tensor]]) -> list[Tensor]:
        return backward() if self.part.during is None else self.part.during(params, buffers, backward)

    def _gradients(self, outputs: Mapping[str, Tensor], params: Named, inputs: Named, batch: Named) -> list[Tensor]:
        """Those of parameters that are used, and of all inputs: whoever made an input waits for its gradient."""
        leaves = {**params, **{f"{INPUT}{n}": leaf for n, leaf in inputs.items()}}
        wanted = {n: leaf for n, leaf in leaves.items() if leaf.requires_grad}
        roots = self._roots(outputs, batch)
        if not wanted:
            return []
        found = _gradients_of(roots, list(wanted.values()))
        named = {n: _given(g, leaf, n in params) for (n, leaf), g in zip(wanted.items(), found, strict=True)}
        made = {n: g for n, g in named.items() if g is not None}
        self.differentiated = list(made)
        return list(made.values())

    def _roots(self, outputs: Mapping[str, Tensor], batch: Named) -> list[tuple[Tensor, Tensor | None]]:
        """What is differentiated, each with its gradient, which of the loss is one; the same tensor maybe twice."""
        given = {n: [batch[gradient_of(n, reader)] for reader in by] for n, by in self.readers.items()}
        roots: list[tuple[Tensor, Tensor | None]] = [(outputs[n], _sum(found)) for n, found in given.items() if found]
        loss = None if self.part.loss is None else outputs[self.part.loss]
        return [(loss, None), *roots] if loss is not None and loss.requires_grad else roots


def _gradients_of(roots: Sequence[tuple[Tensor, Tensor | None]], leaves: Sequence[Tensor]) -> Sequence[Tensor | None]:
    if not roots:
        return [None] * len(leaves)
    values, given = zip(*roots, strict=True)
    return torch.autograd.grad(values, leaves, given, allow_unused=True)


def _sum(gradients: Sequence[Tensor]) -> Tensor:
    total, *others = gradients
    for other in others:
        total = total + other
    return total


def _given(gradient: Tensor | None, leaf: Tensor, is_param: bool) -> Tensor | None:
    if gradient is None and not is_param:
        return torch.zeros_like(leaf)
    return gradient if is_param or gradient is None else in_rows(gradient)

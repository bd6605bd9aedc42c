"""A stage as a module: a graph, and the parameters and buffers of the model that it reads, under their names.

Attributes of its own begin with `_stage`, because all others belong to the model.
"""

import pickle
import warnings
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

from torch import Tensor, fx, nn

from funpipe.interop.pipelining._IR.graph_data import calls_of, graph_of


class StageModule(nn.Module):
    """A module that runs a graph.

    The graph's parameters, buffers and training flags are attributes of this module and of its submodules, read anew in
    every call: `load_state_dict`, `to`, `train` and `torch.func.functional_call` work as on any module, and it can be
    pickled and copied. Tensors that the model's code made while it was captured are no buffers, because the model has
    no name for them; they move with the stage as buffers do.

    Args:
        graph: what it runs; tensors in, one tensor or a tuple out.
        structure: of the pytree that it returns instead; None: what the graph returns.
        called: modules that the graph calls or passes on, by name.

    Example:
        >>> import torch
        >>> graph = fx.Graph()
        >>> out = graph.output(graph.call_function(torch.ops.aten.sin.default, (graph.placeholder("x"),)))
        >>> StageModule(graph, None, {})(torch.zeros(2))
        tensor([0., 0.])
    """

    def __init__(self, graph: fx.Graph, structure: Any, called: Mapping[str, nn.Module]) -> None:
        super().__init__()
        for name, child in called.items():
            self.add_module(name, child)
        self._stage_structure = structure
        self._stage_constants = SimpleNamespace()
        self._stage_set(graph)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Runs the graph.

        Args:
            args: its inputs; of a model's first stage those that are the model's arguments have their names, too.
            kwargs: inputs by name.

        Returns:
            The tensors that later stages read: one, or a tuple; of the last stage what the model returns.
        """
        out = self._stage_function(self, *args, **kwargs)
        return out if self._stage_structure is None else self._stage_structure.unflatten(out)

    def print_readable(self) -> None:
        """Prints the graph as code."""
        print(self._stage_source)

    def _stage_set(self, graph: fx.Graph) -> None:
        """Takes another graph with the same inputs and attributes."""
        self._stage_graph = graph
        self._stage_source, self._stage_function = _compiled(graph)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "StageModule":
        moved = {name: fn(tensor) for name, tensor in vars(self._stage_constants).items()}
        self._stage_constants = SimpleNamespace(**moved)
        return super()._apply(fn, recurse)

    def __getattr__(self, name: str) -> Any:
        # The model may have attributes of these names, which then win.
        own = {"graph": "_stage_graph", "code": "_stage_source"}.get(name)
        try:
            return super().__getattr__(name)
        except AttributeError:
            if own is None:
                raise
            return self.__dict__[own]

    def __getstate__(self) -> dict[str, Any]:
        state = {key: value for key, value in self.__dict__.items() if key not in ("_stage_source", "_stage_function")}
        structure = pickle.dumps(self._stage_structure)
        return {**state, "_stage_graph": calls_of(self._stage_graph), "_stage_structure": structure}

    def __setstate__(self, state: dict[str, Any]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's structures warn about how they themselves are pickled
            structure = pickle.loads(state["_stage_structure"])
        super().__setstate__({**state, "_stage_structure": structure})
        self._stage_set(graph_of(state["_stage_graph"]))


def _compiled(graph: fx.Graph) -> tuple[str, Callable[..., Any]]:
    """The source of a graph as a function of `self` and its inputs, and the function."""
    code = graph.python_code("self")
    names = dict(code.globals)
    exec(compile(code.src, "<stage>", "exec"), names)
    return code.src.strip(), names["forward"]

"""Running a pipeline in this process, stage by stage, forward and backward."""

from typing import Any

import torch
from torch import fx


class DetachExecutor(fx.Interpreter):
    """Runs the graph of a pipeline; where it has backward passes, each stage gets its inputs detached from the others.

    Args:
        module: the graph of the pipeline.
        garbage_collect_values: whether values are dropped after their last use.
    """

    def __init__(self, module: fx.GraphModule, garbage_collect_values: bool = True) -> None:
        super().__init__(module, garbage_collect_values)
        self._entered: dict[str, tuple[Any, ...]] = {}
        self._detaches = any("stage" in node.meta for node in module.graph.nodes)

    def run(self, *args: Any, initial_env: dict[fx.Node, Any] | None = None) -> Any:
        """Runs the whole graph.

        Args:
            args: of the model.
            initial_env: values of nodes that need not run.

        Returns:
            What the last stage returns.
        """
        self._entered = {}
        try:
            return super().run(*args, initial_env=initial_env)
        finally:
            self._entered = {}

    def run_node(self, n: fx.Node) -> Any:
        """Runs one node; a backward pass gets the detached inputs that its stage had."""
        if "stage" not in n.meta:
            return super().run_node(n)
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        return self.call_function(n.target, args, {**kwargs, "input_values": list(self._entered[n.meta["stage"]])})

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Runs a stage."""
        if self._detaches:
            args = self._entered[target] = tuple(map(_detached, args))
        return super().call_module(target, args, kwargs)


def _detached(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.requires_grad:
        return value.detach().requires_grad_()
    return value

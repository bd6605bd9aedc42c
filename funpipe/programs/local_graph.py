"""Local instructions as graphs, traced from what the interpreter means by them."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, fx
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe import _compat
from funpipe._typing import TensorType
from funpipe.graphs.from_fx import from_fx
from funpipe.graphs.graph import Graph
from funpipe.graphs.stand_in import fake_like
from funpipe.optim import Optimizer
from funpipe.programs.execute import Environment, execute
from funpipe.programs.instructions import Instruction
from funpipe.programs.program import Programs


def local_graph(
    programs: Programs,
    instruction: Instruction,
    types: Mapping[str, TensorType],
    optimizer: Optimizer | None = None,
) -> Graph:
    """What an instruction computes, as a graph.

    Args:
        programs: all programs.
        instruction: one that needs no other rank.
        types: of the values that it may read, by name.
        optimizer: for updates.

    Returns:
        The graph: inputs by these names, outputs by the names of the values that are new.
    """

    def run(given: dict[str, Tensor]) -> dict[str, Tensor]:
        env = Environment(programs, dict(given), optimizer)
        execute(instruction, env)
        return {n: t for n, t in env.values.items() if given.get(n) is not t}

    return traced_graph(run, types)


def traced_graph(function: Callable[[dict[str, Tensor]], dict[str, Tensor]], types: Mapping[str, TensorType]) -> Graph:
    """A pure function of named tensors as a graph.

    Args:
        function: from tensors by name to tensors by name.
        types: of what it takes.
    """
    outputs: list[str] = []

    def run(*tensors: Tensor) -> tuple[Tensor, ...]:
        made = function(dict(zip(types, tensors, strict=True)))
        outputs[:] = list(made)
        return tuple(made.values())

    mode = _compat.fake_mode()
    module = make_fx(run, tracing_mode="fake")(*(fake_like(kind, mode) for kind in types.values()))
    constants = _without_attributes(module)
    module.graph.eliminate_dead_code()
    return from_fx(module.graph, [*types, *constants], outputs, constants=constants)


def _without_attributes(module: fx.GraphModule) -> dict[str, Tensor]:
    """Turns the tensors that a function closes over into inputs behind the others; they by name."""
    found: dict[str, Tensor] = {}
    first = next(node for node in module.graph.nodes if node.op != "placeholder")
    for node in list(module.graph.find_nodes(op="get_attr")):
        tensor: Any = getattr(module, str(node.target))
        with module.graph.inserting_before(first):
            placeholder = module.graph.placeholder(f"constant_{len(found)}")
        placeholder.meta["val"] = tensor
        node.replace_all_uses_with(placeholder)
        if node is first:
            first = node.next
        module.graph.erase_node(node)
        found[f"const.{placeholder.name}"] = tensor
    return found

"""Which parameters and buffers each stage has, and under which of their names."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import fx, nn

from funpipe.interop.pipelining._IR.operators import module_path


@dataclass(frozen=True)
class Attributes:
    """The tensors of a model that graphs and state dicts name.

    Args:
        parameters: by name, under every name that they have.
        buffers: likewise.
        persistent: the names in the model's state dict.
        constants: tensors that the code made while it was captured, and modules of its regions.
    """

    parameters: Mapping[str, torch.Tensor]
    buffers: Mapping[str, torch.Tensor]
    persistent: frozenset[str]
    constants: Mapping[str, object]

    def names_of(self, name: str) -> list[str]:
        """All names of the tensor that has this one."""
        tensors = {**self.parameters, **self.buffers}
        return [other for other, tensor in tensors.items() if tensor is tensors.get(name)]


def attributes_of(mod: nn.Module, captured: fx.GraphModule) -> Attributes:
    """The tensors of a model and of its capture.

    Args:
        mod: the model; its own tensors are what the stages get.
        captured: its graph, which may hold further tensors and modules.
    """
    found = Attributes(
        dict(mod.named_parameters(remove_duplicate=False)),
        dict(mod.named_buffers(remove_duplicate=False)),
        frozenset(mod.state_dict(keep_vars=True)),
        {},
    )
    return replace(found, constants=_constants(captured, {*found.parameters, *found.buffers}))


def _constants(captured: fx.GraphModule, known: set[str]) -> dict[str, object]:
    names = {str(node.target) for node in captured.graph.nodes if node.op in ("get_attr", "call_module")}
    return {name: _attribute(captured, name) for name in sorted(names - known)}


def _attribute(captured: nn.Module, name: str) -> object:
    value: object = captured
    for part in name.split("."):
        value = getattr(value, part)
    return value


def use_nearest_names(graph: fx.Graph, attributes: Attributes) -> None:
    """Has each node read a tensor with several names under that of its own module, if there is one; in place.

    Args:
        graph: a captured model, whose nodes read every tensor under one name.
        attributes: the model's tensors.
    """
    for node in [n for n in graph.nodes if n.op == "get_attr"]:
        names = attributes.names_of(str(node.target))
        for user in list(node.users) if len(names) > 1 else []:
            nearest = next((name for name in names if name.rpartition(".")[0] == module_path(user)), node.target)
            with graph.inserting_before(user):
                user.replace_input_with(node, graph.get_attr(str(nearest)))


def apart_from_names(graph: fx.Graph, constants: Mapping[str, object]) -> dict[str, object]:
    """Has a graph read the tensors that its code made where no name of the model can be, in place.

    Args:
        graph: a captured model.
        constants: what it reads besides parameters and buffers, by name.

    Returns:
        The same by the names that are read now; modules keep theirs.
    """
    tensors = [name for name, value in constants.items() if isinstance(value, torch.Tensor)]
    names = {name: f"_stage_constants.constant_{number}" for number, name in enumerate(tensors)}
    for node in graph.nodes:
        if node.op == "get_attr":
            node.target = names.get(node.target, node.target)
    return {names.get(name, name): value for name, value in constants.items()}


def read_names(nodes: Iterable[fx.Node]) -> list[str]:
    """The names of the attributes that nodes read, each once."""
    reads = (read for node in nodes for read in node.all_input_nodes)
    return list(dict.fromkeys(str(read.target) for read in reads if read.op == "get_attr"))


def homes(mod: nn.Module, paths: list[set[str]]) -> dict[str, int]:
    """The stage of each submodule: the first that runs any of it; for one that never runs, that of the one before it.

    Args:
        mod: the model.
        paths: for each stage the names of the submodules that run there, with those that contain them.
    """
    found, before = {}, 0
    for path, _ in mod.named_modules(remove_duplicate=False):
        before = next((stage for stage, here in enumerate(paths) if path in here), before)
        found[path] = before
    return found


def with_unused(names: list[list[str]], attributes: Attributes, home: Mapping[str, int]) -> list[list[str]]:
    """Adds to the names that each stage reads those that no stage reads.

    A tensor that is read goes by its other names only where it is read already; all others are with their module.

    Args:
        names: for each stage the names that it reads.
        attributes: the model's tensors.
        home: the stage of each submodule.
    """
    everywhere = {name for here in names for name in here}
    added: list[list[str]] = [[] for _ in names]
    for name in (*attributes.parameters, *attributes.buffers):
        if name in everywhere:
            continue
        same = set(attributes.names_of(name)) & everywhere
        stage = next((stage for stage, here in enumerate(names) if same & set(here)), home[name.rpartition(".")[0]])
        added[stage].append(name)
    return [[*here, *more] for here, more in zip(names, added, strict=True)]

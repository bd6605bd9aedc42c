"""The module of each stage, taken out of a captured model."""

from typing import Any

from torch import fx, nn
from torch.fx.node import map_arg

from funpipe.interop.pipelining._IR.attributes import homes, read_names, with_unused
from funpipe.interop.pipelining._IR.borders import Border
from funpipe.interop.pipelining._IR.calling import Calling
from funpipe.interop.pipelining._IR.graphs import copy_into
from funpipe.interop.pipelining._IR.operators import module_path
from funpipe.interop.pipelining._IR.outline import give, outline, with_parents
from funpipe.interop.pipelining._IR.prepare import Prepared
from funpipe.interop.pipelining._IR.stage_module import StageModule

_KEPT = ("nn_module_stack", "stack_trace")


def stage_modules(mod: nn.Module, model: Prepared, cut: tuple[Border, ...]) -> list[StageModule]:
    """The module of each stage.

    Args:
        mod: the model, whose tensors the stages share.
        model: its captured graph.
        cut: what each stage computes, takes and gives.
    """
    known = {path for path, _ in mod.named_modules(remove_duplicate=False)}
    run = [with_parents({module_path(node) for node in border.nodes} & known) for border in cut]
    home = homes(mod, run)
    flags = {f"{path}.training".lstrip(".") for path in known}
    read = [[name for name in read_names(_all_nodes(model, border)) if name not in flags] for border in cut]
    made = []
    for stage, names in enumerate(with_unused(read, model.attributes, home)):
        module = StageModule(_graph(model, cut[stage]), model.structure if cut[stage].last else None, {})
        here = {path for path, where in home.items() if where == stage}
        outline(module, mod, with_parents({*run[stage], *here, *(name.rpartition(".")[0] for name in names)}))
        give(module, model.attributes, names)
        made.append(module)
    return made


def _all_nodes(model: Prepared, border: Border) -> list[fx.Node]:
    """What a stage computes; of the last one the results of the model, too."""
    return [*border.nodes, *([model.results] if border.last else [])]


def _graph(model: Prepared, border: Border) -> fx.Graph:
    graph = fx.Graph()
    values = {node: graph.placeholder(node.name) for node in border.values}
    values |= _arguments(graph, model, border)
    for node in border.nodes:
        _attributes(graph, node, values)
        values[node] = copy_into(graph, node, values, _KEPT)
    graph.output(_results(graph, model, border, values))
    return graph


def _results(graph: fx.Graph, model: Prepared, border: Border, values: dict[fx.Node, fx.Node]) -> Any:
    """What a stage's graph returns: what later stages read; the last one's the leaves of the model's results."""
    flat: Any = tuple(values[node] for node in border.outputs)
    if border.last:
        _attributes(graph, model.results, values)
        flat = map_arg(model.results.args[0], lambda node: values[node])
    single = model.structure is None if border.last else len(flat) == 1
    return flat[0] if single else flat


def _arguments(graph: fx.Graph, model: Prepared, border: Border) -> dict[fx.Node, fx.Node]:
    """Placeholders for the model's arguments, and the tensors in them that the stage reads."""
    calling: Calling = model.calling
    whole = {position: graph.placeholder(calling.names[position]) for position in border.arguments}
    leaves = [node for node in model.graph.nodes if node.op == "placeholder"]
    found = {}
    for node, leaf in zip(leaves, calling.leaves, strict=True):
        if leaf.position not in whole:
            continue
        value = whole[leaf.position]
        for function, key in leaf.steps:
            value = graph.call_function(function, (value, key))
        found[node] = value
    return found


def _attributes(graph: fx.Graph, node: fx.Node, values: dict[fx.Node, fx.Node]) -> None:
    """Reads the attributes that a node reads, where they are not read already."""
    for read in node.all_input_nodes:
        if read.op == "get_attr" and read not in values:
            values[read] = copy_into(graph, read, values, _KEPT)

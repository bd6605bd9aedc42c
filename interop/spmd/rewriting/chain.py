"""Two graphs one after the other as one graph: the second goes on with what the first gives."""

from dataclasses import replace

from funpipe.graphs import Graph, Node, Ref, map_refs


def chained(first: Graph, second: Graph) -> Graph:
    """A graph that does what two graphs do.

    Args:
        first: its outputs are, where the second has an input of the same name, that input.
        second: its other inputs are inputs of the whole.

    Returns:
        The graph. Its outputs are those of the second, and those of the first that the second neither takes nor gives.

    Example:
        >>> import torch
        >>> from torch.fx.experimental.proxy_tensor import make_fx
        >>> from funpipe.graphs import from_fx
        >>> made = make_fx(lambda x: (x.sin(),), tracing_mode="fake")(torch.ones(2))
        >>> once = from_fx(made.graph, ["state.x"], ["state.x"])
        >>> print(chained(once, once).as_text())
        state.x: float32[2]
        sin: float32[2] = aten.sin.default(%state.x)
        sin_1: float32[2] = aten.sin.default(%sin)
        return state.x = %sin_1
    """
    whole = Graph(
        {**first.inputs, **{n: t for n, t in second.inputs.items() if n not in first.outputs}},
        first.nodes,
        first.outputs,
        {**first.constants, **second.constants},
        {**first.objects, **second.objects},
    )
    values = {name: value for name, value in first.outputs.items() if name in second.inputs}
    for node in second.nodes:
        made = _with_values(node, values, whole.fresh(node.name))
        values[node.name] = Ref(made.name)
        whole = whole.replace(nodes=(*whole.nodes, made))
    outputs = {n: v for n, v in first.outputs.items() if n not in second.inputs}
    outputs |= {n: map_refs(lambda ref: values.get(ref.name, ref), v) for n, v in second.outputs.items()}
    return whole.replace(outputs=outputs)


def _with_values(node: Node, values: dict[str, object], name: str) -> Node:
    def swap(value: object) -> object:
        return map_refs(lambda ref: values.get(ref.name, ref), value)

    return replace(
        node, name=name, args=swap(node.args), kwargs={key: swap(value) for key, value in node.kwargs.items()}
    )

"""Weight gradients behind the rest of a backward.

x ── y1 ── y2 ── y3         h3 ── h2 ── h1        the chain that everything waits for
                            │     │     │
                            g3    g2    g1        gradients of the weights, for collectives alone
"""

import torch

import funpipe as fp
from funpipe._typing import MeshShape
from funpipe.graphs import Graph
from funpipe.graphs.communication import is_start
from funpipe.passes import weights_last
from tests.passes.communication.steps import Step, names, require_same


def backward() -> Step:
    step = Step()
    step.leaf("x", 4, 4)
    for name, before in (("h3", "x"), ("h2", "h3"), ("h1", "h2")):
        step.mm(name, before, "x")
    return step


def test_a_weight_gradient_goes_behind_the_chain():
    step = backward()
    step.mm("g3", "x", "h3")
    step.reduced("3", "g3")
    graph = step.graph(["h1", "w3"])
    assert names(weights_last()(graph)) == "h3 h2 h1 g3 p3 w3"
    require_same(graph, weights_last()(graph))


def test_what_something_else_reads_too_stays():
    step = backward()
    step.mm("g3", "x", "h3")
    step.mm("norm", "g3", "g3")
    step.reduced("3", "g3")
    assert names(weights_last()(step.graph(["norm", "w3"]))) == "h3 h2 h1 g3 norm p3 w3"


def test_collectives_of_a_pipelined_rank_that_others_share_stay():
    step = backward()
    step.mm("g3", "x", "h3")
    step.reduced("3", "g3", axis="pp")
    step.mm("g2", "x", "h2")
    step.reduced("2", "g2", axis="dp")
    graph = step.graph(["h1", "w3", "w2"]).replace(pipelined=True)
    made = names(weights_last()(graph)).split()
    assert made.index("g3") < made.index("p3") < made.index("g2") == made.index("p2") - 1


def layers(count: int) -> Graph:
    """A backward through layers, the last one's gradient first, and an update of all weights."""
    optimizer = fp.optim.sgd(0.1)

    def step(weights: dict[str, torch.Tensor], x: torch.Tensor) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
        def loss_of(weights: dict[str, torch.Tensor]) -> torch.Tensor:
            y = x
            for i in range(count):
                y = (y @ weights[str(i)]).tanh()
            return y.square().mean()

        grads, loss = torch.func.grad_and_value(loss_of)(weights)
        grads = {name: fp.psum(grads[name], "dp") for name in reversed(list(grads))}
        return fp.optim.apply(optimizer, weights, grads, {}, torch.tensor(0))[0], loss

    weights = {str(i): torch.ones(4, 4) for i in range(count)}
    return fp.trace_step(step, weights, torch.ones(4, 4), mesh=MeshShape(1, 2)).graph


def test_collectives_start_in_the_order_in_which_the_next_step_reads_the_weights():
    graph = layers(3)
    made = weights_last()(graph)
    order = {node.name: i for i, node in enumerate(filter(is_start, graph.nodes))}
    assert [order[node.name] for node in made.nodes if is_start(node)] == [2, 1, 0]
    starts = [made.positions[node.name] for node in made.nodes if is_start(node)]
    assert all(node.target is not torch.ops.aten.tanh_backward.default for node in made.nodes[starts[0] :])

from torch import fx
from torch.distributed.pipelining import _utils as theirs

from funpipe.interop.pipelining._utils import PipeInfo


def test_it_is_made_as_in_torch():
    graph = fx.Graph()
    ours, other = PipeInfo(graph, 2, False), theirs.PipeInfo(graph, 2, False)
    assert (ours.graph, ours.num_stages, ours.has_loss_and_backward) == (
        other.graph,
        other.num_stages,
        other.has_loss_and_backward,
    )
    assert ours.wiring == () and ours.replicated == ()

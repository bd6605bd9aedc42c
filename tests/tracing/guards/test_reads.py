"""What may be read out of tensors in Python while a function is traced, and what may not."""

import pytest
import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from funpipe._errors import TraceError
from funpipe.functional import Out
from funpipe.tracing import trace

PARAMS = {"w": torch.ones(3, 2)}
X = torch.arange(12.0).view(4, 3)
CLOSED_OVER = torch.tensor([3, 1, 2])


def loss_with(read):
    def loss(p, x):
        return (x @ p["w"]).sum() * read(x)

    return loss


def traced(read, x=X):
    return trace(loss_with(read), PARAMS, x)


def values(read):
    return [guard.value for guard in traced(read).guards]


@pytest.mark.parametrize(
    ("read", "found"),
    [
        (lambda x: x.sum().item(), [66.0]),
        (lambda x: int(x[0, 1]), [1.0]),
        (lambda x: 2 if x.max() > 5 else 1, [True]),
        (lambda x: 2 if (x > 20).any() else 1, [False]),
        (lambda x: sum(x[0].tolist()), [0.0, 1.0, 2.0]),
        (lambda x: torch.equal(x, x * 1), [True]),
        (lambda x: float(x[1:, 1:].t().reshape(-1)[0]), [4.0]),
        (lambda x: torch.equal(x[0].long(), CLOSED_OVER), [False]),
        (lambda x: int(x.sum()) + int(x.sum()), [66.0]),
    ],
)
def test_values_of_the_batch_are_constants_with_a_guard(read, found):
    made = traced(read)
    assert [guard.value for guard in made.guards] == found
    assert all(guard.leaves == (("batch", ""),) for guard in made.guards)
    assert all(guard.read({("batch", ""): X}) == value for guard, value in zip(made.guards, found, strict=True))


@pytest.mark.parametrize(
    "read",
    [lambda x: CLOSED_OVER.sum().item(), lambda x: int(CLOSED_OVER[0]), lambda x: torch.linspace(0, 1, 3).tolist()[1]],
)
def test_values_of_constants_need_no_guard(read):
    assert values(read) == []


def test_what_was_written_in_place_before_is_read():
    def read(x):
        y = x.clone()
        y[0] = 7
        y.view(-1)[3:].mul_(2)
        total = y.sum().item()
        y.zero_()
        return total

    def eagerly(x):
        y = x.clone()
        y[0] = 7
        y.view(-1)[3:].mul_(2)
        return y.sum().item()

    (guard,) = traced(read).guards
    assert guard.value == guard.read({("batch", ""): X}) == eagerly(X)
    assert guard.read({("batch", ""): X + 1}) == eagerly(X + 1)


def test_values_are_read_in_the_backward_of_a_checkpoint_too():
    def part(x, w):
        return torch.tanh(x @ w) * (2 if x.sum() > 0 else 1)

    made = trace(lambda p, x: checkpoint(part, x, p["w"], use_reentrant=False).sum(), PARAMS, X)
    assert [guard.value for guard in made.guards] == [True]


def refused(read, x=X):
    with pytest.raises(TraceError) as caught:
        traced(read, x)
    text = str(caught.value)
    assert f"reads a tensor's value in Python at {__file__}:" in text and text.endswith("pass it in the batch.")
    return text


def test_values_of_parameters_are_refused():
    with pytest.raises(TraceError, match="It depends on the parameter 'w', which every step changes"):
        trace(lambda p, x: (x @ p["w"]).sum() * p["w"].sum().item(), PARAMS, X)


def test_random_values_are_refused():
    assert "It comes from random numbers" in refused(lambda x: 2 if torch.rand(()) < 0.5 else 1)
    assert "It comes from random numbers" in refused(lambda x: F.dropout(x, 0.5).sum().item())


def test_a_batch_without_values_is_refused():
    assert "pass a real batch" in refused(lambda x: x.sum().item(), X.to("meta"))


def test_buffers_may_be_read_unless_they_are_updated():
    def loss(update):
        def loss(p, x, *, buffers):
            total = (x @ p["w"]).sum() * buffers["scale"].item()
            return Out(total, buffers={"scale": buffers["scale"] * 2} if update else buffers)

        return loss

    buffers = {"scale": torch.tensor(3.0)}
    (guard,) = trace(loss(False), PARAMS, X, buffers=buffers).guards
    assert (guard.value, guard.leaves) == (3.0, (("buffer", "scale"),))
    with pytest.raises(TraceError, match="the buffer 'scale', which the function updates"):
        trace(loss(True), PARAMS, X, buffers=buffers)
    with pytest.raises(TraceError, match="the buffer 'scale', whose values are not known here"):
        trace(loss(False), PARAMS, X, buffers={"scale": torch.tensor(3.0, device="meta")})


def test_the_text_of_a_trace_shows_its_guards():
    assert "\nguard 66.0 == v1 = aten.sum.default(batch ''); " in traced(lambda x: x.sum().item()).as_text()


def test_distributions_do_not_look_at_their_parameters(monkeypatch):
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)  # compiling switches it off for good

    def loss(p, x):
        h = x @ p["w"]
        scale = torch.nn.functional.softplus(h[:, 1]) + 1
        return -torch.distributions.Normal(h[:, 0], scale).log_prob(x[:, 0]).mean()

    assert trace(loss, PARAMS, X).guards == ()
    with pytest.raises(ValueError, match="scale"):
        torch.distributions.Normal(0.0, -1.0)

import pytest
from torch import nn

from funpipe.interop.spmd.engine.overriding import replaced, replacements


class Named:
    """Replaces submodules by name."""

    def __init__(self, **others):
        self.others, self.asked = others, []

    def replacement(self, fqn, orig_submodule):
        self.asked.append(fqn)
        return self.others.get(fqn.replace(".", "_"), orig_submodule)


def model():
    return nn.ModuleDict({"a": nn.Sequential(nn.ReLU(), nn.ReLU()), "b": nn.ReLU()})


def test_what_is_replaced_is_not_looked_into():
    override = Named(a=nn.Identity())
    (found,) = replacements(model(), [override])
    assert found.name == "a"
    assert override.asked == ["a", "b"]


def test_nested_names_and_several_overrides():
    one, two = Named(a_1=nn.Identity()), Named(b=nn.Tanh())
    made = model()
    found = replacements(made, [one, two])
    with replaced(found):
        assert isinstance(made["a"][1], nn.Identity)
        assert isinstance(made["b"], nn.Tanh)
    assert [type(m) for m in made.modules()] == [type(m) for m in model().modules()]


def test_everything_is_put_back_after_an_error():
    made = model()
    with pytest.raises(KeyError), replaced(replacements(made, [Named(b=nn.Tanh())])):
        raise KeyError
    assert isinstance(made["b"], nn.ReLU)

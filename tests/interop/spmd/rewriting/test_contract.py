"""The order of passes, for each graph module by itself."""

import gc
from copy import deepcopy
from unittest.mock import MagicMock

import pytest
from torch import fx

from funpipe import FunpipeError
from funpipe.interop.spmd.errors import SpmdAssertionError
from funpipe.interop.spmd.graph_optimization import (
    _apply_before_sets,
    _optimized_func,
    _prerequisite_sets,
    comm_fusion_with_concat,
    graph_optimization_pass,
)
from funpipe.interop.spmd.iter_graph_module import IterGraphModule


@graph_optimization_pass(prerequisites=[], apply_after=[])
def pass1(gm) -> None:
    return


@graph_optimization_pass(prerequisites=[pass1], apply_after=[])
def pass2(gm) -> None:
    return


@graph_optimization_pass(prerequisites=[], apply_after=[pass1])
def pass3(gm) -> None:
    return


def module() -> fx.GraphModule:
    return fx.symbolic_trace(lambda x: x + 1)


def mock() -> MagicMock:
    return MagicMock(spec=IterGraphModule)


def test_order_with_the_registry_cleared_between():
    gm = mock()
    for each in (pass1, pass3, pass2):
        each(gm)
    _optimized_func.clear()
    pass3(gm)
    _optimized_func.clear()
    with pytest.raises(AssertionError, match="are the prerequisites of"):
        pass2(gm)
    _optimized_func.clear()
    with pytest.raises(AssertionError, match="must be applied after"):
        pass3(gm)
        pass1(gm)


def test_order_with_a_module_for_each_part():
    first, second, third, fourth = (mock() for _ in range(4))
    for each in (pass1, pass3, pass2):
        each(first)
    pass3(second)
    with pytest.raises(AssertionError, match="are the prerequisites of"):
        pass2(third)
    pass3(fourth)
    with pytest.raises(AssertionError, match="must be applied after"):
        pass1(fourth)


def test_a_pass_runs_once_on_a_module_and_on_any_number_of_modules():
    for gm in (module(), module()):
        pass1(gm)
    with pytest.raises(AssertionError, match=r"Cannot apply .*pass1 twice\. .*trace the step again"):
        pass1(gm)


def test_what_was_applied_to_a_module_holds_for_the_iter_graph_module_of_it():
    gm = module()
    pass1(gm)
    made = IterGraphModule(gm)
    pass2(made)
    with pytest.raises(AssertionError, match="twice"):
        pass1(made)
    with pytest.raises(AssertionError, match="are the prerequisites of"):
        pass2(IterGraphModule(module()))


def test_what_was_applied_to_a_module_holds_for_a_copy_until_it_is_cleared():
    gm = module()
    pass1(gm)
    copy = deepcopy(gm)
    pass2(copy)
    with pytest.raises(AssertionError, match="twice"):
        pass1(copy)
    _optimized_func.clear()
    pass1(copy)


def test_two_passes_of_one_name_are_two():
    def made(calls):
        @graph_optimization_pass(prerequisites=[], apply_after=[])
        def same(gm) -> None:
            calls.append(gm)

        return same

    calls, gm = [], module()
    made(calls)(gm)
    made(calls)(gm)
    assert calls == [gm, gm]


def test_the_message_names_what_is_missing_and_what_there_is():
    gm = module()
    pass3(gm)
    with pytest.raises(SpmdAssertionError) as caught:
        pass2(gm)
    here = pass1.__module__
    assert str(caught.value) == (
        f"{{'{here}.pass1'}} are the prerequisites of {here}.pass2 but are not applified. "
        f"Applied passes are {{'{here}.pass3'}}. Apply {{'{here}.pass1'}} to this graph module first."
    )
    assert isinstance(caught.value, FunpipeError)


def test_a_pass_wants_a_graph_module():
    with pytest.raises(AssertionError, match="must be either fx.GraphModule or IterGraphModule. It is a int: pass"):
        pass1(3)


def test_a_pass_that_fails_is_not_applied():
    @graph_optimization_pass(prerequisites=[], apply_after=[])
    def fails(gm) -> None:
        raise ZeroDivisionError

    gm = module()
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            fails(gm)


def test_a_pass_leaves_a_graph_without_dead_nodes():
    @graph_optimization_pass(prerequisites=[], apply_after=[])
    def adds(gm) -> None:
        with gm.graph.inserting_after(next(iter(gm.graph.nodes))) as _:
            gm.graph.call_function(abs, (next(iter(gm.graph.nodes)),))

    gm = module()
    adds(gm)
    assert [node.name for node in gm.graph.nodes] == ["x", "add", "output"]


def test_the_names_of_what_was_applied_can_be_read():
    _optimized_func.clear()
    gm = module()
    pass1(gm)
    name = f"{pass1.__module__}.pass1"
    assert list(_optimized_func) == [name] and name in _optimized_func and len(_optimized_func) == 1
    assert _prerequisite_sets[f"{pass1.__module__}.pass2"] == {name}
    assert _apply_before_sets[name] == {f"{pass1.__module__}.pass3"}
    del gm
    gc.collect()
    assert list(_optimized_func) == []


def test_a_wrapped_pass_keeps_its_name_and_words():
    assert comm_fusion_with_concat.__name__ == "comm_fusion_with_concat"
    assert comm_fusion_with_concat.__module__ == "funpipe.interop.spmd.graph_optimization"
    assert "Makes a few large all-reduces" in comm_fusion_with_concat.__doc__

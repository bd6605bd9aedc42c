import pytest
import torch

import funpipe as fp
from funpipe import passes
from funpipe._errors import PassError
from funpipe.graphs import Ref, eliminate_dead
from funpipe.passes import Pass, compose, default_passes
from funpipe.programs import Programs
from tests.graphs.made import graph_of, summed

GRAPH = graph_of(lambda x: (summed(x.sin()), summed(x.cos())), torch.ones(2), inputs=["batch.x"])


def same(graph):
    return graph


FIRST, SECOND = Pass("first", same), Pass("second", same, requires=("first",))
THIRD = Pass("third", same, after=("first",))


def names(graph):
    return [each.name for each in graph.applied]


def test_passes_are_applied_in_order_and_noted():
    assert names(compose(FIRST, THIRD, SECOND)(GRAPH)) == ["first", "third", "second"]


def test_an_optional_predecessor_may_be_absent():
    assert names(compose(THIRD)(GRAPH)) == ["third"]


def test_a_missing_prerequisite_is_an_error_before_anything_runs():
    ran = []
    noisy = Pass("noisy", lambda graph: ran.append(1) or graph)
    with pytest.raises(PassError, match=r"\['first'\] are the prerequisites of 'second'"):
        compose(noisy, SECOND)(GRAPH)
    assert not ran


def test_a_prerequisite_may_have_been_applied_before():
    assert names(compose(SECOND)(compose(FIRST)(GRAPH))) == ["first", "second"]


def test_a_prerequisite_behind_is_an_error_at_once():
    with pytest.raises(PassError, match="are the prerequisites of 'second'"):
        compose(SECOND, FIRST)


def test_order_is_checked_at_once_and_over_what_was_applied_before():
    with pytest.raises(PassError, match="'third' must be applied after 'first'"):
        compose(THIRD, FIRST)
    with pytest.raises(PassError, match="'third' must be applied after 'first'"):
        FIRST(THIRD(GRAPH))


def test_twice_only_where_the_pass_says_so():
    with pytest.raises(PassError, match="'first' cannot be applied twice"):
        compose(FIRST, FIRST)
    often = Pass("often", same, repeats=True)
    assert names(compose(often, often)(GRAPH)) == ["often", "often"]


def test_nothing_comes_behind_the_last():
    with pytest.raises(PassError, match="'end' must be the last pass, and 'first' comes behind it"):
        compose(Pass("end", same, last=True), FIRST)


def test_the_same_pass_runs_in_many_compilations():
    assert names(FIRST(GRAPH)) == names(FIRST(GRAPH)) == ["first"]


def test_two_passes_may_be_called_alike_in_two_compilations():
    other = Pass("first", eliminate_dead)
    assert names(other(GRAPH)) == names(FIRST(GRAPH))


def test_the_wrong_kind_of_value_is_an_error():
    with pytest.raises(PassError, match="'early_receives' takes a Programs, and was given a Graph"):
        default_passes[0](GRAPH)
    with pytest.raises(PassError, match="passes take a Step, a Graph or Programs, and were given a str"):
        FIRST("graph")
    assert default_passes[0].over is Programs


def test_dumps_show_each_step_and_its_difference(tmp_path):
    compose(Pass("clean", eliminate_dead), dump=tmp_path / "made")(GRAPH.replace(outputs={"out.0": Ref("sin")}))
    written = sorted(file.name for file in (tmp_path / "made").iterdir())
    assert written == ["00_start.txt", "01_clean.diff.txt", "01_clean.txt"]
    assert "- cos" in (tmp_path / "made" / "01_clean.diff.txt").read_text()


def test_dumps_of_a_rotated_step_have_a_folder_for_each_graph(tmp_path):
    traced = fp.trace_step(lambda w, x: (w - 0.1 * x, w * x), torch.ones(2), torch.ones(2))
    compose(Pass("clean", eliminate_dead), dump=tmp_path)(fp.rotate(traced, {"sub"}))
    starts = {part: (tmp_path / part / "00_start.txt").read_text() for part in ("first", "main", "flush")}
    assert "sub" not in starts["first"]
    assert "sub" in starts["main"] and "batch" in starts["main"]
    assert "batch" not in starts["flush"]


def test_what_is_no_pass_says_how_to_pass_it():
    with pytest.raises(PassError, match=r"eliminate_dead is no pass: wrap .* Pass\('eliminate_dead', eliminate_dead\)"):
        compose(eliminate_dead)
    with pytest.raises(PassError, match=r"bucket is no pass: .* as in passes.bucket\(\)\.$"):
        compose(passes.bucket)
    with pytest.raises(PassError, match=r"a list is no pass: pass them one by one, as in compose\(\*passes\)"):
        compose([FIRST, THIRD])
    with pytest.raises(PassError, match=r"as in compose\(\*pipeline.passes\)"):
        compose(compose(FIRST), THIRD)


def test_names_of_other_passes_come_in_a_tuple():
    with pytest.raises(PassError, match=r"requires='first' of the pass 'second' is a text: pass a tuple, \('first',\)"):
        Pass("second", same, requires="first")


def test_a_pass_is_a_function():
    with pytest.raises(PassError, match="fn=3 of the pass 'three' cannot be called: pass a function of graphs"):
        Pass("three", 3)


def test_a_pass_that_came_before_may_come_again():
    assert names(compose(passes.dedupe(), passes.bucket(), passes.dedupe())(GRAPH)) == ["dedupe", "bucket", "dedupe"]
    with pytest.raises(PassError, match="'bucket' must be applied after 'dedupe'"):
        compose(passes.bucket(), passes.dedupe())


def test_a_rotated_step_goes_through_with_all_its_graphs():
    traced = fp.trace_step(lambda w, x: (w - 0.1 * x, w * x), torch.ones(2), torch.ones(2))
    rotated = compose(FIRST, THIRD)(fp.rotate(traced, {"sub"}))
    assert all(names(graph) == ["first", "third"] for graph in (rotated.graphs.first, rotated.graphs.flush))
    assert names(Pass("fourth", same)(rotated.graphs).main) == ["first", "third", "fourth"]

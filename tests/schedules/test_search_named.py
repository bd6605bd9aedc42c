from funpipe.schedules import GPipe, OneFOneB, VMin, ZeroBubbleH2, simulate
from funpipe.schedules.search_named import every_schedule, named_that_fit
from funpipe.schedules.search_request import Request


def named(p, m, limit, *, split=True, counts=(1, 2), placement=None):
    request = Request(p, m, 1.0, 1.0, 1.0, None, 0.0, limit, placement, counts, split)
    return named_that_fit(request.problems(), request.stage_counts())


def names(found):
    return {type(one.schedule).__name__ for one in found}


def test_the_shortest_comes_first_and_all_fit():
    found = named(4, 12, 4)
    assert [one.makespan for one in found] == sorted(one.makespan for one in found)
    assert all(one.problem.fits(simulate(one.table).peak_activations) for one in found)


def test_less_memory_leaves_fewer():
    assert named(4, 12, 1) == []
    assert names(named(4, 12, 2)) == {"VMin"}
    assert {"ZeroBubbleH1", "ZBV", "VHalf", "VMin", "OneFOneB"} <= names(named(4, 12, 4))
    assert ZeroBubbleH2() not in [one.schedule for one in named(4, 12, 6.5)]
    assert ZeroBubbleH2() in [one.schedule for one in named(4, 12, 7)]
    assert GPipe() not in [one.schedule for one in named(4, 12, 11)]


def test_without_a_split_there_are_only_whole_backwards():
    assert "OneFOneB" in names(named(4, 12, None, split=False))
    assert not names(named(4, 12, None, split=False)) & {"ZBV", "ZeroBubbleH1"}


def test_what_does_not_train_or_does_not_exist_for_the_numbers_is_left_out():
    assert "ForwardOnly" not in names(named(4, 12, None))
    assert "ZBV" not in names(named(4, 2, None))


def test_any_placement_has_its_named_schedules():
    placement = (0, 1, 2, 0)
    found = named(3, 6, None, placement=placement)
    assert {OneFOneB(placement), GPipe(placement)} <= {one.schedule for one in found}
    assert {one.table.placement for one in found} == {placement}


def test_options_that_are_open_are_all_tried():
    found = list(every_schedule((2, 4), [(0, 1)]))
    assert [s.stages_per_rank for s in found if type(s).__name__ == "Interleaved1F1B"] == [2, 4]
    assert OneFOneB((0, 1)) in found and found.count(VMin()) == 1

import pytest

from funpipe.schedules.search_request import Request, placements


def request(p, m, *, F=1.0, memory_limit=None, placement=None, stages_per_rank=(1, 2), latency=0.0, B=None):
    return Request(p, m, F, 1.0, 1.0, B, latency, memory_limit, placement, stages_per_rank, True)


def test_placements_are_loops_and_there_and_back():
    assert placements(2, 3) == ((0, 1, 0, 1, 0, 1), (0, 1, 1, 0, 0, 1))
    found = [problem.placement for problem in request(2, 4).problems()]
    assert found == [(0, 1), (0, 1, 0, 1), (0, 1, 1, 0)]
    assert len(request(1, 4, stages_per_rank=2).problems()) == 1


def test_one_number_is_shared_by_the_stages_of_a_rank():
    assert [problem.F for problem in request(1, 4, F=3.0).problems()] == [(3.0,), (1.5, 1.5)]
    assert request(2, 4, F=3.0, placement=(0, 1, 0)).problems()[0].F == (1.5, 3.0, 1.5)


def test_a_sequence_is_of_each_stage():
    (problem,) = request(2, 4, F=[1.0, 2.0, 3.0], placement=(0, 1, 0), B=[4.0, 5.0, 6.0]).problems()
    assert (problem.F, problem.B, problem.I) == ((1.0, 2.0, 3.0), (4.0, 5.0, 6.0), (0.5, 1.0, 0.5))


@pytest.mark.parametrize(
    ("limit", "limits"), [(None, (8, 4)), (1, (2, 1)), (2.5, (5, 2)), (2.99, (5, 2)), (99, (8, 4)), ([1, 3], (2, 3))]
)
def test_a_limit_is_in_whole_activations_of_a_stage(limit, limits):
    (problem,) = request(2, 4, memory_limit=limit, placement=(0, 1, 0)).problems()
    assert problem.limits == limits


def test_latency_is_paid_between_ranks_only():
    (problem,) = request(2, 4, placement=(0, 1, 1, 0), latency=2.0).problems()
    assert [problem.travel(boundary) for boundary in range(3)] == [2.0, 0.0, 2.0]

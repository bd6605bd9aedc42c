import pytest

from funpipe import optim
from funpipe._errors import ProgramError
from funpipe._typing import MeshShape
from funpipe.programs import verify
from funpipe.programs.instructions import AllReduce, Flatten, Run, Scale, Send, Squares, Store, Update
from funpipe.programs.rules.histories import histories
from tests.programs.edits import at, change, error_of, exchange, find, insert, move, remove
from tests.programs.models import chain, normalized, programs_of, tied, weighted

CLIPPED = optim.chain(optim.clip_by_global_norm(1.0), optim.sgd(0.1))
GOOD = programs_of(chain, 2, 2, mesh=MeshShape(2, 2), optimizer=CLIPPED)
WEIGHTED = programs_of(weighted, 2, 2, mesh=MeshShape(2, 2), optimizer=CLIPPED)
TIED = programs_of(tied, 2, 2, optimizer=CLIPPED)
BUFFERS = programs_of(normalized, 1, 2, mesh=MeshShape(1, 2), mean_buffers=True)
GRADIENT = "Its history is: flatten, all_reduce dp, scale 4, squares, update."


@pytest.mark.parametrize("programs", [GOOD, WEIGHTED, TIED, BUFFERS])
def test_good_programs_pass(programs):
    assert verify(programs)


def test_a_gradient_that_is_not_reduced():
    lines = error_of(remove(GOOD, find(GOOD, AllReduce, group="dp")))
    assert lines[0].endswith("`scale 4` comes out of turn for 'grad.s0_float32'.")
    assert lines[-1] == GRADIENT


def test_a_gradient_scaled_before_it_is_reduced():
    rank, start = find(GOOD, AllReduce, group="dp")
    lines = error_of(exchange(GOOD, (rank, start), (rank, start + 1)))
    assert "`scale 4` comes out of turn" in lines[0]


@pytest.mark.parametrize("kind", [Scale, AllReduce])
def test_a_gradient_reduced_or_scaled_twice(kind):
    place = find(GOOD, kind)
    lines = error_of(insert(GOOD, place, at(GOOD, place)))
    assert "comes out of turn for 'grad.s0_float32'." in lines[0]


def test_a_gradient_that_is_not_scaled():
    assert "`squares` comes out of turn" in error_of(remove(GOOD, find(GOOD, Scale)))[0]


@pytest.mark.parametrize("plan", [GOOD, WEIGHTED])
def test_a_gradient_scaled_by_another_number(plan):
    assert "`scale 2` comes out of turn" in error_of(change(plan, find(plan, Scale), by=2))[0]


def test_an_update_that_is_missing():
    lines = error_of(remove(GOOD, find(GOOD, Update, rank=1)))
    assert lines[0].endswith("'grad.s1_float32' lacks its `update`.")
    assert lines[-1] == GRADIENT


def test_the_only_update_that_is_missing():
    plan = programs_of(chain, 1, 2, optimizer=optim.sgd(0.1))
    assert "'grad.s0_float32' lacks its `update`." in error_of(remove(plan, find(plan, Update)))[0]


def test_an_update_done_twice():
    place = find(GOOD, Update, rank=0)
    assert "`update` comes out of turn" in error_of(insert(GOOD, place, at(GOOD, place)))[0]


def test_a_bucket_that_is_never_flattened():
    plan = programs_of(chain, 2, 2)
    without = plan
    for kind in (Flatten, Scale):
        without = remove(without, find(without, kind, rank=0))
    assert "which nothing makes" in error_of(without)[0]


def test_no_run_reads_updated_parameters():
    rank, start = find(GOOD, Update, rank=0)
    late = insert(GOOD, (rank, start + 1), at(GOOD, find(GOOD, Run, rank=0)))
    with pytest.raises(ProgramError, match="`run` comes out of turn for 'bucket.s0_float32'"):
        histories(late)


def test_a_norm_of_gradients_that_are_not_scaled():
    lines = error_of(move(GOOD, find(GOOD, Squares, rank=0), find(GOOD, Scale, rank=0)))
    assert "`squares` comes out of turn for 'grad.s0_float32'." in lines[0]


def test_an_update_before_the_norm_is_reduced():
    lines = error_of(move(GOOD, find(GOOD, Update, rank=0), find(GOOD, AllReduce, rank=0, group="pp")))
    assert "`update` comes out of turn for 'squares'." in lines[0]
    assert lines[-1] == "Its history is: squares, all_reduce pp, update*."


def test_gradients_divided_before_the_weight_is_reduced():
    lines = error_of(move(WEIGHTED, find(WEIGHTED, Scale, rank=0), find(WEIGHTED, AllReduce, rank=0, group="world")))
    assert "`divide` comes out of turn for 'weight'." in lines[0]


def test_a_tied_copy_that_is_not_stored():
    lines = error_of(remove(TIED, find(TIED, Store)))
    assert lines[0].endswith("'leaf.words' lacks its `store`.")
    assert lines[-1] == "Its history is: run*, store."


def test_a_tied_leaf_sent_before_its_update():
    message = next(m for m in TIED.messages if "value param.words" in m.label)
    update = find(TIED, Update, rank=message.src)
    send = find(TIED, Send, message=message.id)
    assert "overwritten while message" in error_of(move(TIED, send, update))[0]


def test_a_copy_read_after_it_is_stored():
    rank, start = find(TIED, Store)
    late = insert(TIED, (rank, start + 1), Run("F1", 0, ("param.words",), ()))
    with pytest.raises(ProgramError, match=r"`run` comes out of turn for 'leaf.words'"):
        histories(late)


def test_a_buffer_is_reduced_and_then_scaled():
    place = find(BUFFERS, AllReduce, number=1)
    assert at(BUFFERS, place).group == "dp"
    lines = error_of(remove(BUFFERS, place))
    assert "`scale 2` comes out of turn" in lines[0]
    assert lines[-1] == "Its history is: run*, all_reduce dp, scale 2."
    assert "lacks its `scale 2`" in error_of(remove(BUFFERS, (0, place[1] + 1)))[0]
    assert "`scale 2` comes out of turn" in error_of(exchange(BUFFERS, place, (0, place[1] + 1)))[0]


def test_nothing_else_is_reduced():
    plan = programs_of(chain, 1, 1, mesh=MeshShape(1, 2))
    value = at(plan, find(plan, Run)).writes[0]
    end = find(plan, Flatten)
    assert f"{value!r} lacks its `scale 2`" in error_of(insert(plan, end, AllReduce(value, "dp")))[0]

from funpipe.schedules import Communication, GPipe, OneFOneB, simulate


def test_each_rank_has_a_line():
    sim = simulate(OneFOneB().table(2, 4), communication=Communication(latency=0.5, overlap=False))
    whole, heads, *ranks = sim.as_text().splitlines()
    assert whole == f"makespan {sim.makespan:g}, bubble {sim.bubble:g} ({100 * sim.bubble / sim.makespan:.1f} %)"
    assert heads.split() == ["rank", "busy", "fill", "input", "communication", "drain", "activations", "memory"]
    for rank, line in enumerate(ranks):
        causes = (sim.idle.fill, sim.idle.input, sim.idle.communication, sim.idle.drain)
        numbers = [rank, sim.busy[rank], *(some[rank] for some in causes), sim.peak_activations[rank]]
        assert line.split() == [f"{number:g}" for number in (*numbers, sim.memory.peak[rank])]


def test_many_ranks_are_cut_short():
    text = simulate(GPipe().table(20, 1)).as_text().splitlines()
    assert len(text) == 2 + 16 + 1
    assert text[-1] == "and 4 more ranks"


def test_nothing_takes_no_time():
    assert simulate(GPipe().table(1, 1), F=0.0, B=0.0).as_text().startswith("makespan 0, bubble 0 (0.0 %)")


def test_its_repr_is_a_line():
    table = GPipe().table(2, 2)
    assert repr(simulate(table)) == f"Simulation({table!r}, makespan=9, bubble=3)"

"""Small random problems of what to save, and all choices that there are."""

from itertools import chain, combinations

import hypothesis.strategies as st

from funpipe.stages.choices import Choice, Values


@st.composite
def problems(draw: st.DrawFn) -> Values:
    """Up to 8 values; some of them are received, some are there for nothing, some cannot be saved."""
    count = draw(st.integers(1, 8))
    reads, nbytes, cost = [], [], []
    for v in range(count):
        reads.append(tuple(draw(st.sets(st.integers(0, v - 1), max_size=3)) if v else ()))
        kind = draw(st.sampled_from(["value", "value", "value", "view", "leaf", "received", "once"]))
        reads[v] = () if kind in ("leaf", "received") else reads[v]
        nbytes.append(None if kind in ("view", "leaf") else draw(st.integers(0, 20)))
        cost.append({"leaf": 0, "view": 0, "received": None, "once": None}.get(kind, draw(st.integers(0, 20))))
    saveable = [v for v in range(count) if nbytes[v] is not None]
    wanted = draw(st.sets(st.sampled_from(saveable), min_size=1)) if saveable else ()
    return Values(tuple(reads), tuple(nbytes), tuple(cost), tuple(sorted(wanted)))


def all_choices(values: Values) -> list[Choice]:
    saveable = [v for v, nbytes in enumerate(values.nbytes) if nbytes is not None]
    subsets = chain.from_iterable(combinations(saveable, k) for k in range(len(saveable) + 1))
    return [values.choice(subset) for subset in subsets]

"""Four ranks: the gradients of every schedule are those of the unsplit model, also when it was read from a file."""

import pytest

import funpipe as fp
from tests.interop.pipelining.every_schedule import NAMES, RANKS, errors

pytestmark = pytest.mark.full


@pytest.fixture(scope="module", params=["interpret", "regions", "step"])
def ranks(request, tmp_path_factory) -> list[dict[str, float]]:
    folder = tmp_path_factory.mktemp("schedules")
    return fp.launch(errors, RANKS, "funpipe.interop.pipelining", {"backend": request.param}, folder, timeout=900)


@pytest.mark.parametrize("name", NAMES)
def test_gradients_are_those_of_the_unsplit_model(name: str, ranks: list[dict[str, float]]):
    assert max(rank[name] for rank in ranks) < 1e-6

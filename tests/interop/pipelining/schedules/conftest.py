"""A stand-in for the engine that writes down what it was made of and what it was asked to run."""

import pytest

from funpipe.interop.pipelining.schedules import running


class Recorder:
    """An engine that runs nothing; raises what is wrong with a call, as the real one does."""

    made = []

    def __init__(self, *, stages, table, options):
        self.stages, self.table, self.options, self.calls = stages, table, options, []
        Recorder.made.append(self)

    def step(self, call, *, training, losses, return_outputs):
        self.calls.append((call, training, losses, return_outputs))
        if call.error is not None:
            raise call.error
        return "outputs" if return_outputs else None


@pytest.fixture
def engines(monkeypatch):
    """The engines that were made."""
    Recorder.made = []
    monkeypatch.setattr(running, "Engine", Recorder)
    return Recorder.made

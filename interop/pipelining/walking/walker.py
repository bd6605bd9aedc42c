"""One rank's way through its row: each action with the messages and the hand-overs around it."""

from dataclasses import dataclass
from typing import Any

import torch

from funpipe.interop.pipelining.schedules import _Action, _ComputationType, _get_profiler_function_name
from funpipe.interop.pipelining.stage.handing import gradients_for, outputs_for, take_gradients, take_inputs
from funpipe.interop.pipelining.walking.arrival import Arrival, Tensors
from funpipe.interop.pipelining.walking.computing import Computing, microbatch_of
from funpipe.interop.pipelining.walking.message import Message
from funpipe.interop.pipelining.walking.neighbours import Neighbours
from funpipe.interop.pipelining.walking.post import Post

Kind = _ComputationType


@dataclass(frozen=True)
class Walker:
    """One rank in one step.

    Args:
        computing: what its actions compute.
        neighbours: its stages and where the others are.
        post: the messages.
    """

    computing: Computing
    neighbours: Neighbours
    post: Post

    def run(self, action: _Action) -> None:
        """Runs one action; an overlap that has no function of its own one part after the other."""
        if action.computation_type == Kind.OVERLAP_F_B and not self.computing.is_custom(action):
            for part in action.sub_actions or ():
                self.run(part)
            return
        with torch.profiler.record_function(_get_profiler_function_name(action)):
            arrivals = [self._receive(message) for message in self.neighbours.received_by(action)]
            if action.computation_type in (Kind.RECV_F, Kind.RECV_B):
                self._expect(action, arrivals)
            else:
                self._do(action, arrivals)

    def give_up(self, action: _Action) -> None:
        """After an error: tells the receivers of an action's messages, and expects what it would have received."""
        for message in self.neighbours.sent_by(action):
            self.post.send_failure(message, self.neighbours.ranks[message.destination])
        for message in self.neighbours.received_by(action):
            self._receive(message)

    def _expect(self, action: _Action, arrivals: list[Arrival]) -> None:
        """Leaves messages of neighbours to the action that needs them, or to a custom function."""
        schedule = self.computing.schedule
        waited_for = schedule.fwd_recv_ops if action.computation_type == Kind.RECV_F else schedule.bwd_recv_ops
        waited_for[action.stage_index, microbatch_of(action)] = arrivals

    def _do(self, action: _Action, skipped: list[Arrival]) -> None:
        for arrival in skipped:
            arrival.wait()
        self.computing.run(action)
        for part in action.sub_actions or (action,):
            self._hand_over(part)
        for message in self.neighbours.sent_by(action):
            self._send(message)

    def _receive(self, message: Message) -> Arrival:
        stage = self.neighbours.stages[message.destination]

        def deliver(tensors: Tensors) -> None:
            take = take_gradients if message.backward else take_inputs
            take(stage, message.microbatch, message.source, _moved(tensors, stage.device))

        return self.post.receive(message, self.neighbours.ranks[message.source], deliver)

    def _send(self, message: Message) -> None:
        stage = self.neighbours.stages[message.source]
        made = gradients_for if message.backward else outputs_for
        tensors = made(stage, message.microbatch, message.destination)
        self.post.send(message, self.neighbours.ranks[message.destination], tensors)

    def _hand_over(self, action: _Action) -> None:
        """What stages of this rank read of what an action made, unless a custom function gave it to them."""
        if action.computation_type == Kind.FORWARD:
            self._hand_on(self.neighbours.stages[action.stage_index], microbatch_of(action))
        elif action.computation_type in (Kind.FULL_BACKWARD, Kind.BACKWARD_INPUT) and self.neighbours.has_backward:
            self._hand_back(self.neighbours.stages[action.stage_index], microbatch_of(action))

    def _hand_on(self, stage: Any, microbatch: int) -> None:
        index = stage.stage_index
        for reader in self.neighbours.here(self.neighbours.sources_and_readers(index)[1]):
            if all(argument.stage != index for argument in reader.received.get(microbatch, ())):
                take_inputs(reader, microbatch, index, outputs_for(stage, microbatch, reader.stage_index))

    def _hand_back(self, stage: Any, microbatch: int) -> None:
        index = stage.stage_index
        for source in self.neighbours.here(self.neighbours.sources_and_readers(index)[0]):
            if index not in source.arrived.get(microbatch, ()):
                take_gradients(source, microbatch, index, gradients_for(stage, microbatch, source.stage_index))


def _moved(tensors: Tensors, device: torch.device) -> Any:
    """The tensors on a device, `requires_grad` kept."""
    return {
        index: None if tensor is None else tensor.detach().to(device).requires_grad_(tensor.requires_grad)
        for index, tensor in tensors.items()
    }

"""What the time of a step goes to: one real step, timed instruction by instruction on every rank."""

from funpipe.runtime.profiling.event import Event as Event
from funpipe.runtime.profiling.profile import Profile as Profile

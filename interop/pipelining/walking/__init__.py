"""The walk: a rank's row of actions, one by one, for schedules with functions of the user's own."""

from funpipe.interop.pipelining.walking.together import on_any_rank as on_any_rank
from funpipe.interop.pipelining.walking.together import together as together
from funpipe.interop.pipelining.walking.walk import Walked as Walked
from funpipe.interop.pipelining.walking.walk import walk as walk

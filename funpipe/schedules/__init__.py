"""Schedules: from integers to tables of tasks, checked, simulated, and read and written as text; no torch."""

from funpipe.schedules.base import Schedule as Schedule
from funpipe.schedules.check import check as check
from funpipe.schedules.from_table import FromTable as FromTable
from funpipe.schedules.gpipe import GPipe as GPipe
from funpipe.schedules.merge import forward_only as forward_only
from funpipe.schedules.merge import merge as merge
from funpipe.schedules.one_f_one_b import OneFOneB as OneFOneB
from funpipe.schedules.registry import get as get
from funpipe.schedules.registry import resolve as resolve
from funpipe.schedules.simulate import Simulation as Simulation
from funpipe.schedules.simulate import simulate as simulate
from funpipe.schedules.table import Table as Table
from funpipe.schedules.task import Task as Task

"""Stages: functional partitions of a traced graph, and the ways to cut it."""

from funpipe.stages.at_marks import AtMarks as AtMarks
from funpipe.stages.at_marks import at_marks as at_marks
from funpipe.stages.balanced import Balanced as Balanced
from funpipe.stages.balanced import balanced as balanced
from funpipe.stages.costs import Costs as Costs
from funpipe.stages.costs import Roofline as Roofline
from funpipe.stages.cuts import resolve as resolve
from funpipe.stages.cutter import Cutter as Cutter
from funpipe.stages.memory import Memory as Memory
from funpipe.stages.partition import crossing as crossing
from funpipe.stages.partition import partition as partition
from funpipe.stages.remat import Budget as Budget
from funpipe.stages.remat import Remat as Remat
from funpipe.stages.remat import rematerialise as rematerialise
from funpipe.stages.saved import bytes_for_weights as bytes_for_weights
from funpipe.stages.saved import saved_bytes as saved_bytes
from funpipe.stages.split_at import SplitAt as SplitAt
from funpipe.stages.split_at import split_at as split_at
from funpipe.stages.split_backward import split_backward as split_backward
from funpipe.stages.stage import Region as Region
from funpipe.stages.stage import Stage as Stage
from funpipe.stages.stage_costs import StageCosts as StageCosts
from funpipe.stages.stage_costs import stage_costs as stage_costs

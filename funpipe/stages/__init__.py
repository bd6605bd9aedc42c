"""Stages: functional partitions of a traced graph."""

from funpipe.stages.partition import crossing as crossing
from funpipe.stages.partition import partition as partition
from funpipe.stages.stage import Region as Region
from funpipe.stages.stage import Stage as Stage

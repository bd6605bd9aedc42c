"""Planning: what to run on a cluster, and how long it will take, before there is one."""

from funpipe.planning.candidate import Candidate as Candidate
from funpipe.planning.cluster import Cluster as Cluster
from funpipe.planning.cluster import Link as Link
from funpipe.planning.cluster import Links as Links
from funpipe.planning.config import plan_file as plan_file
from funpipe.planning.layers import AtLayers as AtLayers
from funpipe.planning.measured import Measured as Measured
from funpipe.planning.plan import plan as plan
from funpipe.planning.plans import Plan as Plan
from funpipe.planning.plans import Plans as Plans
from funpipe.planning.profile import profile as profile
from funpipe.planning.profile import profile_stages as profile_stages
from funpipe.planning.region_costs import RegionCosts as RegionCosts

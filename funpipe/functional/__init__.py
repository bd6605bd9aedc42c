"""From an `nn.Module` to a pure function over a pytree of parameters, and the values such functions take and return."""

from funpipe.functional import microbatch as microbatch
from funpipe.functional.functionalize import PureModule as PureModule
from funpipe.functional.functionalize import functionalize as functionalize
from funpipe.functional.loss import LossOut as LossOut
from funpipe.functional.loss import Out as Out
from funpipe.functional.loss import Weighted as Weighted
from funpipe.functional.loss import normalize as normalize
from funpipe.functional.marks import collecting_marks as collecting_marks
from funpipe.functional.marks import mark_stage_end as mark_stage_end
from funpipe.functional.names import check_names as check_names
from funpipe.functional.names import nearest as nearest
from funpipe.functional.reducers import Reduced as Reduced
from funpipe.functional.reducers import ReduceKind as ReduceKind
from funpipe.functional.reducers import cat as cat
from funpipe.functional.reducers import combine as combine
from funpipe.functional.reducers import last as last
from funpipe.functional.reducers import max as max
from funpipe.functional.reducers import mean as mean
from funpipe.functional.reducers import sum as sum
from funpipe.functional.restore import restore as restore
from funpipe.functional.signature import call_loss as call_loss
from funpipe.functional.signature import keywords_of as keywords_of
from funpipe.functional.tree import check_same as check_same
from funpipe.functional.tree import named_leaves as named_leaves
from funpipe.functional.tree import types_of as types_of
from funpipe.functional.tree import unflatten_named as unflatten_named

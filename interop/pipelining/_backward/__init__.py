"""The backward of one stage and one microbatch: whole, or the inputs' gradients now and the weights' later."""

from funpipe.interop.pipelining._backward.inputs import stage_backward_input as stage_backward_input
from funpipe.interop.pipelining._backward.weights import stage_backward_weight as stage_backward_weight
from funpipe.interop.pipelining._backward.whole import stage_backward as stage_backward

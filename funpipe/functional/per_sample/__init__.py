"""Loss functions whose gradients are taken sample by sample: norms, clipping."""

from funpipe.functional.per_sample.clipped import per_sample_clipped as per_sample_clipped
from funpipe.functional.per_sample.norms import squared_norms as squared_norms
from funpipe.functional.per_sample.scaled import scaled as scaled

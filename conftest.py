"""What every test and docstring example shares: one thread for each process, and property tests without a deadline."""

import os

import hypothesis
import torch

# First of all: asked for one file, pytest would load its package and then the file again, as a second module.
import funpipe as funpipe

os.environ.setdefault("OMP_NUM_THREADS", "1")  # for the processes that tests start
torch.set_num_threads(1)

# A first compile takes seconds, and more on a busy machine: the time of one example says nothing.
hypothesis.settings.register_profile("funpipe", deadline=None, print_blob=True)
hypothesis.settings.load_profile("funpipe")

"""Random numbers as pure functions of a key: the same on every backend, device and cut of a model."""

from funpipe.functional.random.dropout import dropout as dropout
from funpipe.functional.random.integers import permutation as permutation
from funpipe.functional.random.integers import randint as randint
from funpipe.functional.random.keys import fold_in as fold_in
from funpipe.functional.random.keys import from_name as from_name
from funpipe.functional.random.keys import key as key
from funpipe.functional.random.keys import split as split
from funpipe.functional.random.normal import normal as normal
from funpipe.functional.random.normal import truncated_normal as truncated_normal
from funpipe.functional.random.uniform import bernoulli as bernoulli
from funpipe.functional.random.uniform import uniform as uniform

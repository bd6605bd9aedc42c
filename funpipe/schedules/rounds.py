"""In which order a rank with several stages takes its microbatches: round by round, stage by stage in a round."""

import numpy as np


def turns(num_ranks: int, stages_per_rank: int, num_microbatches: int, per_round: int) -> tuple[np.ndarray, np.ndarray]:
    """The number of each forward and of each backward in its rank's order, stages laid round and round.

    Args:
        num_ranks: p.
        stages_per_rank: v.
        num_microbatches: m.
        per_round: microbatches of a round.

    Returns:
        For forwards and for backwards an integer array of shape (p * v, m): 0 to v * m - 1 on each rank.

    Example:
        >>> forward, backward = turns(num_ranks=1, stages_per_rank=2, num_microbatches=4, per_round=2)
        >>> forward.tolist(), backward.tolist()
        ([[0, 1, 4, 5], [2, 3, 6, 7]], [[2, 3, 6, 7], [0, 1, 4, 5]])
    """
    chunk = np.arange(num_ranks * stages_per_rank)[:, None] // num_ranks
    round_, place = np.divmod(np.arange(num_microbatches), per_round)
    first = round_ * per_round * stages_per_rank + place
    return first + chunk * per_round, first + (stages_per_rank - 1 - chunk) * per_round

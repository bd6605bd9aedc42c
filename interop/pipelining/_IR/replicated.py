"""Parameters that several stages have."""

from collections.abc import Sequence

from torch import nn

from funpipe.interop.pipelining._IR.submodule_names import get_submod_name, stage_index


def replicated_params(stages: Sequence[nn.Module]) -> list[dict[str, str]]:
    """For each parameter that several stages have, its name in each of them.

    Args:
        stages: their modules, in order.

    Example:
        >>> one = nn.Linear(2, 2)
        >>> replicated_params([one, nn.Sequential(one)])[0]
        {'submod_pp_0': 'weight', 'submod_pp_1': '0.weight'}
    """
    found: dict[int, dict[str, str]] = {}
    for stage, module in enumerate(stages):
        for name, parameter in module.named_parameters():
            found.setdefault(id(parameter), {})[get_submod_name(stage)] = name
    return [names for names in found.values() if len(names) > 1]


def replicas(found: Sequence[dict[str, str]]) -> tuple[tuple[tuple[int, str], ...], ...]:
    """The same with the stages' numbers.

    Args:
        found: as `replicated_params` gives it.

    Example:
        >>> replicas([{"submod_pp_0": "weight", "submod_pp_1": "0.weight"}])
        (((0, 'weight'), (1, '0.weight')),)
    """
    return tuple(tuple((stage_index(stage), name) for stage, name in names.items()) for names in found)

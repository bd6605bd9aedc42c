"""What becomes of a parameter that several stages use."""

from collections.abc import Mapping
from enum import Enum

from funpipe.interop.pipelining.errors import PipeNotImplementedError, PipeTypeError


class MultiUseParameterConfig(Enum):
    """How stages share a parameter.

    `REPLICATE`: each of them has it. `TRANSMIT`: the first one has it and sends it to the others; declared by
    torch.distributed.pipelining too, and available in neither.

    Example:
        >>> MultiUseParameterConfig.REPLICATE
        <MultiUseParameterConfig.REPLICATE: 2>
    """

    TRANSMIT = 1
    REPLICATE = 2


MultiUseParamSpec = MultiUseParameterConfig | dict[str, MultiUseParameterConfig]
"""One for all parameters, or one for each by name."""


def check_multi_use(spec: MultiUseParamSpec | None) -> None:
    """Refuses what is not available.

    Args:
        spec: what the user asks for; None: `REPLICATE`.

    Raises:
        PipeNotImplementedError: `TRANSMIT` is asked for.
        PipeTypeError: something that is no `MultiUseParameterConfig`.
    """
    for name, config in (spec if isinstance(spec, Mapping) else {"every parameter": spec}).items():
        if config is MultiUseParameterConfig.TRANSMIT:
            raise PipeNotImplementedError(
                f"MultiUseParameterConfig.TRANSMIT for {name} is not available; use MultiUseParameterConfig.REPLICATE."
            )
        if config is not None and not isinstance(config, MultiUseParameterConfig):
            raise PipeTypeError(
                f"multi_use_param_spec says {config!r} for {name}; use MultiUseParameterConfig.REPLICATE."
            )

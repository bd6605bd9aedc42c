"""The submodules of a stage: the names of the model's, with the parameters and buffers that the stage has."""

from typing import Any, NoReturn

from torch import nn

from funpipe.interop.pipelining.errors import PipeRuntimeError


class Submodule(nn.Module):
    """A submodule of a model as far as it is on a stage: parameters, buffers, children and whether it is training.

    Its operators are in the stage's graph, where those of all submodules are in the order of their execution; so it
    cannot be called by itself.

    Args:
        of: the name of the class of the model's submodule.

    Example:
        >>> Submodule("Linear")
        Linear()
    """

    def __init__(self, of: str) -> None:
        super().__init__()
        self._stage_class = of

    def _get_name(self) -> str:
        return self._stage_class

    def forward(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Not possible.

        Raises:
            PipeRuntimeError: always.
        """
        raise PipeRuntimeError(
            f"a submodule ({self._stage_class}) of a traced stage was called; its operators run where its stage is "
            "called: call the stage, or the submodule of the model itself."
        )

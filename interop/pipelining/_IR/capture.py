"""A whole model as one graph, and what is said when that fails."""

import linecache
import traceback
import warnings
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram

from funpipe.interop.pipelining._IR.assigned_buffers import assigned_buffers
from funpipe.interop.pipelining._IR.containers import plain, replacing_dataclasses, whole
from funpipe.interop.pipelining._IR.ctc_loss import CapturingCTCLoss, needs_ctc_loss
from funpipe.interop.pipelining._IR.reads import Repeating, values_read
from funpipe.interop.pipelining._IR.refused import check_names, check_plain
from funpipe.interop.pipelining.errors import PipeRuntimeError
from funpipe.interop.pipelining.trees import flatten, unflatten

_TORCH = str(Path(torch.__file__).parent)
_HERE = str(Path(__file__).parent)


def capture(mod: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> ExportedProgram:
    """Exports a model for one microbatch.

    Sizes that the model computes with stay variables, so that another batch may have others. Where torch cannot trace
    the model so, they become numbers, with a warning. Gradients are on, whatever the caller's mode: only the model's
    own `no_grad` counts.

    Args:
        mod: the model, on any device, `meta` included.
        args: its positional arguments for one microbatch.
        kwargs: its keyword arguments.

    Raises:
        PipeRuntimeError: the model is not one graph; the cause is torch's own error.
        PipeValueError: a parameter, buffer or submodule has a name that graphs have for themselves.
        PipeliningMetadataError: a tensor of the model or an argument is a DTensor.
    """
    given = plain((tuple(args), dict(kwargs or {})))
    check_names(mod)
    check_plain(mod, given)
    exported, first = _exported(mod, given, any_sizes=True)
    modes = () if exported is not None else _modes(mod, given, first)
    if modes:
        exported, first = _exported(mod, given, any_sizes=True, modes=modes)
    if exported is None:
        exported, error = _exported(mod, given, any_sizes=False, modes=modes)
        if exported is None:
            raise PipeRuntimeError(_text(error)) from error
        warnings.warn(
            f"the sizes of the example arguments are fixed in the stages, because torch cannot trace "
            f"{type(mod).__name__} for others: {_first_line(first)}; call pipeline() again for other sizes.",
            stacklevel=4,
        )
    return exported


Mode = Callable[[], AbstractContextManager[Any]]


def _modes(mod: nn.Module, given: Any, error: Exception) -> tuple[Mode, ...]:
    """With what open the model may be exported after all: where it reads values out of tensors, or has a CTC loss."""
    reads = "data-dependent" in str(error) or "DataDependent" in repr(error)
    values = values_read(mod, *whole(given)) if reads else ()
    if not values and not needs_ctc_loss(error):
        return ()
    return (CapturingCTCLoss, partial(Repeating, values)) if values else (CapturingCTCLoss,)


def _exported(
    mod: nn.Module, given: Any, any_sizes: bool, modes: tuple[Mode, ...] = ()
) -> tuple[ExportedProgram | None, Exception]:
    """The exported model, or the reason why it cannot be."""
    args, kwargs = _aliases(*given)
    sizes: Any = _sizes((args, kwargs)) if any_sizes else None
    with warnings.catch_warnings(), torch.enable_grad(), assigned_buffers(mod), replacing_dataclasses(mod):
        warnings.simplefilter("ignore")  # about torch's own code and tracing; the model's own come when it runs
        try:
            with ExitStack() as opened:
                for mode in modes:
                    opened.enter_context(mode())
                return torch.export.export(mod, args, kwargs, dynamic_shapes=sizes, strict=False), Exception()
        except Exception as error:
            return None, error


def _sizes(arguments: Any) -> torch.export.ShapesCollection:
    """Every size of every tensor may vary where the model allows it; a size of 1 is taken for a deliberate one."""
    sizes = torch.export.ShapesCollection()
    for leaf in flatten(arguments)[0]:
        if isinstance(leaf, torch.Tensor):
            sizes[leaf] = {dim: torch.export.Dim.AUTO for dim, length in enumerate(leaf.shape) if length > 1}
    return sizes


def _aliases(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The same arguments with other tensor objects.

    A capture leaves notes on the objects that it is given, and takes two arguments that are one object for one.
    """

    def alias(value: Any) -> Any:
        return value.detach().requires_grad_(value.requires_grad) if isinstance(value, torch.Tensor) else value

    leaves, structure = flatten((args, kwargs))
    return unflatten(structure, map(alias, leaves))


def unlifted(program: ExportedProgram) -> fx.GraphModule:
    """An exported program as a graph that reads its parameters and buffers as attributes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch(\.|$)")
        return program.module(check_guards=False)  # type: ignore[return-value]


def _text(error: Exception) -> str:
    return (
        "It seems that we cannot capture your model as a full graph. "
        f"{type(error).__name__} {_user_line(error)}: {_first_line(error)}. "
        "Usual causes are branches and shapes that depend on the values of tensors, .item(), and custom operators "
        "without a fake form. Rewrite that line with tensor operators such as torch.where, or make the stages yourself "
        "with PipelineStage."
    )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else "no text"


def _user_line(error: Exception) -> str:
    """The last line of the model's own code that was running."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith((_TORCH, _HERE, "<"))]
    if not frames or frames[-1].lineno is None:
        return "in torch"
    last = frames[-1]
    code = linecache.getline(last.filename, last.lineno or 0).strip()
    return f"at {last.filename}:{last.lineno} in {last.name}, code: {code}"

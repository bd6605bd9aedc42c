"""Compiling ahead of time: a function of tensors becomes machine code without being run."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from funpipe import _compat
from funpipe._errors import CompileError
from funpipe.backends.broken import remove_broken
from funpipe.backends.failure import failure

OPTIONS: dict[str, Any] = {"size_asserts": False, "alignment_asserts": False}
"""Generated code checks no shapes again: the verifier and the engine have done so."""


def ahead_of_time(function: Callable[..., Any], example: Sequence[Tensor], what: str) -> tuple[Callable[..., Any], str]:
    """Compiles a function for tensors like the given ones.

    Args:
        function: flat tensors in, tensors out; may overwrite its arguments.
        example: tensors of the types that it will get; not changed.
        what: what is compiled, for the error.

    Returns:
        The compiled function, and the code that the compiler wrote or found in its cache.

    Raises:
        CompileError: torch cannot compile it; its own error is the cause. Or its caches are switched off.
    """
    if _compat.compiler_cache() is None:
        raise CompileError(
            f"{what} cannot be compiled as one function, because torch compiles ahead of time only with its caches and "
            "they are switched off: use numerics='exact', or unset TORCHINDUCTOR_FORCE_DISABLE_CACHES."
        )
    removed = set[Path]()
    while True:
        try:
            return _compiled(function, example)
        except Exception as error:
            library = remove_broken(error)
            if library is None or library in removed:  # it was made anew, and is broken again
                raise failure(what, error) from error
            removed.add(library)


def _compiled(function: Callable[..., Any], example: Sequence[Tensor]) -> tuple[Callable[..., Any], str]:
    with _compat.generated_code() as code, torch.no_grad(), _compat.quiet_compile():
        compiled = torch.compile(function, fullgraph=True, dynamic=False, options=OPTIONS)
        made = compiled.aot_compile((tuple(example), {}))
    made.disable_guard_check()  # the caller passes what the program types; thread counts and modes may change
    return made, "\n".join(code)

"""Compiling ahead of time: a function of tensors becomes machine code without being run."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, fx

from funpipe import _compat
from funpipe._errors import CompileError

NO_COMPILER = "No working C++ compiler"
"""What torch says where there is none."""


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
        CompileError: torch cannot compile it; its own error is the cause.
    """
    try:
        with _compat.generated_code() as code, torch.no_grad(), _compat.quiet_compile(), _compat.separate_regions():
            compiled = torch.compile(function, fullgraph=True, dynamic=False, options=OPTIONS)
            made = compiled.aot_compile((tuple(example), {}))
    except Exception as error:
        raise CompileError(_text(what, error)) from error
    made.disable_guard_check()  # the caller passes what the program types; thread counts and modes may change
    return made, "\n".join(code)


def callable_of(name: str, graph: fx.GraphModule) -> Callable[..., Any]:
    """A graph as a function that can be compiled ahead of time, and as a nested region.

    It finds the graph among its globals, because a closure cannot be compiled ahead of time. Its code is its own,
    because Dynamo takes two nested regions with equal code and equal types of arguments for one: hence the name in it.

    Args:
        name: of the function; no two of the regions of one step share it.
        graph: flat tensors in, a tuple of tensors out.
    """
    names: dict[str, Any] = {"graph": graph}
    exec(f"def {name}(*inputs):\n    return graph(*inputs)\n", names)
    return names[name]


def _text(what: str, error: Exception) -> str:
    if NO_COMPILER in str(error):
        return (
            f"{what} cannot be compiled, because torch finds no C++ compiler: install one (g++, or clang named by the "
            "environment variable CXX), or use backend='interpret', which needs none."
        )
    first = str(error).strip().partition("\n")[0]
    return (
        f"{what} cannot be compiled: {type(error).__name__}: {first}. Use backend='interpret', which runs the same "
        "program operator by operator; if an operator of your own is at fault, register a fake form for it "
        "(torch.library.register_fake)."
    )

"""What generated code calls, read from it: the compiler's kernels, and library functions."""

import ast
import re

_NOT_KERNELS = ("empty_strided", "reinterpret_tensor", "alloc_from_pool", "assert_", "get_raw_stream", "args.clear")
"""How calls begin that make, view or check memory."""

_IN_CPP = re.compile(
    r"\b(?:(?P<kernel>cpp_fused_\w+)\(|aoti_torch_(?:cpu|cuda|xpu)_(?P<library>\w+)\("
    r"|aoti_torch_(?:call_dispatcher|proxy_executor_call_function)\(\"(?P<operator>[^\"]+))"
)
"""Calls of kernels, of the library's functions, and of operators by name, where the code between kernels is C++."""


def called(code: str) -> tuple[str, ...]:
    """The kernels and library functions that generated code calls, in order.

    Args:
        code: a module that the compiler wrote; it runs in its function `call`, or in C++ in `inductor_entry_impl`.

    Returns:
        Names: `cpp_fused_tanh_0`, `triton_poi_fused_add_1` (written for this graph), `extern_kernels.mm` or `mm_out`,
        `mkldnn._linear_pointwise`, `funpipe::mm` (of a library).

    Example:
        >>> called("def call(args):\\n    buf0 = empty_strided_cpu((2,), (1,))\\n    cpp_fused_add_0(args[0], buf0)")
        ('cpp_fused_add_0',)
    """
    start = code.find("void inductor_entry_impl(")
    if start >= 0:
        calls = _IN_CPP.finditer(code, start, code.find("// inductor_entry_impl", start))
        return tuple(call["kernel"] or call["library"] or call["operator"] for call in calls)
    functions = (n for n in ast.walk(ast.parse(code)) if isinstance(n, ast.FunctionDef) and n.name == "call")
    names = (_name(statement) for function in functions for statement in _statements(function))
    return tuple(name for name in names if name and not name.startswith(_NOT_KERNELS))


def _statements(body: ast.FunctionDef | ast.With) -> list[ast.stmt]:
    """All statements in order, also those under a choice of device."""
    return [s for part in body.body for s in (_statements(part) if isinstance(part, ast.With) else [part])]


def _name(statement: ast.stmt) -> str:
    """What a statement calls; a choice of device is no call."""
    call = statement.value if isinstance(statement, ast.Expr | ast.Assign) else None
    if not isinstance(call, ast.Call):
        return ""
    name = ast.unparse(call.func)
    if name.startswith("torch.") and not name.startswith("torch.ops."):
        return ""
    return name.removeprefix("torch.ops.").removesuffix(".default").removesuffix(".run")

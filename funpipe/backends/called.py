"""What generated code calls, read from it: the compiler's kernels, and library functions."""

import ast

_NOT_KERNELS = ("empty_strided", "reinterpret_tensor", "alloc_from_pool", "assert_", "get_raw_stream", "args.clear")
"""How calls begin that make, view or check memory."""


def called(code: str) -> tuple[str, ...]:
    """The kernels and library functions that generated code calls, in order.

    Args:
        code: a module that the compiler wrote; it runs in its function `call`.

    Returns:
        Names: `cpp_fused_tanh_0`, `triton_poi_fused_add_1` (written for this graph), `extern_kernels.mm`,
        `mkldnn._linear_pointwise` (of a library).

    Example:
        >>> called("def call(args):\\n    buf0 = empty_strided_cpu((2,), (1,))\\n    cpp_fused_add_0(args[0], buf0)")
        ('cpp_fused_add_0',)
    """
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

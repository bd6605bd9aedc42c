"""What an error of the compiler says to whoever asked for a step."""

from funpipe._errors import CompileError

NO_COMPILER = "No working C++ compiler"
"""What torch says where there is none."""


def failure(what: str, error: Exception) -> CompileError:
    """The error that names what could not be compiled.

    Args:
        what: the region, or the step.
        error: the compiler's.
    """
    if NO_COMPILER in str(error):
        return CompileError(
            f"{what} cannot be compiled, because torch finds no C++ compiler: install one (g++, or clang named by the "
            "environment variable CXX), or use backend='interpret', which needs none."
        )
    if "CppCompileError" in type(error).__name__ or "CppCompileError" in str(error):
        return CompileError(
            f"{what} cannot be compiled, because the C++ compiler refuses a kernel (its own words are the cause): if "
            "it is older than the processor, use a newer one (the environment variable CXX), or set "
            "TORCHINDUCTOR_VEC_ISA_OK=0 for code without vectors; else use backend='interpret'."
        )
    first = str(error).strip().partition("\n")[0].rstrip(".")
    return CompileError(
        f"{what} cannot be compiled: {type(error).__name__}: {first}. Use backend='interpret', which runs the same "
        "program operator by operator; if an operator of your own is at fault, register a fake form for it "
        "(torch.library.register_fake)."
    )

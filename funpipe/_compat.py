"""The private corners of torch that have no public counterpart, one function each.

Every function here has a test in `tests/test_compat.py` that fails clearly when a torch release moves what it uses.
"""

import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.fx

from funpipe._typing import TensorType


def fake_mode() -> AbstractContextManager[Any]:
    """A mode in which tensors have shapes, strides and devices, and no memory; real ones may be mixed in."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode(allow_non_fake_inputs=True)


def is_fake(tensor: torch.Tensor) -> bool:
    """Whether a tensor has no memory because it was made under `fake_mode`."""
    from torch._subclasses.fake_tensor import FakeTensor

    return isinstance(tensor, FakeTensor)


@contextmanager
def through_compiled() -> Iterator[None]:
    """While open, tracing goes through modules and functions that are compiled, as if they were not."""
    if "torch._dynamo" not in sys.modules:  # then nothing is compiled, and loading it would take seconds
        yield
        return
    from torch._dynamo import config

    with config.patch(error_on_nested_fx_trace=False), warnings.catch_warnings():
        # The hooks are those that note which module an operation belongs to; once more does no harm.
        warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are global hooks", UserWarning)
        yield


@contextmanager
def without_compiling() -> Iterator[None]:
    """While open, modules and functions that are compiled run as if they were not; generated code takes no fakes."""
    if "torch._dynamo" not in sys.modules:  # as above
        yield
        return
    with torch.compiler.set_stance("force_eager"):
        yield


_COMPILING = threading.RLock()
"""What is patched while Inductor writes code is patched for the process: one thread at a time may."""


@contextmanager
def generated_code() -> Iterator[list[str]]:
    """While open, collects the source of every module that Inductor generates in this thread, or finds in its cache."""
    from torch._inductor.graph import GraphLowering

    found: list[str] = []
    mine = threading.get_ident()
    with _COMPILING:
        before = GraphLowering.__dict__["save_output_code"]

        previous = GraphLowering.save_output_code

        def collect(code: str) -> None:
            if threading.get_ident() == mine:
                found.append(code)
            elif previous is not None:
                previous(code)

        GraphLowering.save_output_code = staticmethod(collect)  # type: ignore[method-assign]
        try:
            yield found
        finally:
            GraphLowering.save_output_code = before  # type: ignore[method-assign]


@contextmanager
def quiet_compile() -> Iterator[None]:
    """While open, what torch warns about in its own code is not shown: nobody who compiles a step can act on it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"torch(\.|$)")
        warnings.filterwarnings(
            "ignore", message="The .grad attribute of a Tensor that is not a leaf", category=UserWarning
        )
        warnings.filterwarnings("ignore", message="dynamo_pgo force disabled", category=UserWarning)
        yield


def write_kernels(module: torch.fx.GraphModule, types: Sequence[TensorType], options: dict[str, Any]) -> str:
    """The source of a Python module that runs a graph: its kernels, and a function `call` of a list of tensors.

    The kernels are being built by other threads when this returns; running the source waits for them.

    Args:
        module: ATen operators; flat tensors in, a tuple of tensors out; may write to its inputs.
        types: of its inputs.
        options: of Inductor.

    Raises:
        RuntimeError: Inductor made no source, or more than one.
    """
    from torch._functorch import config as functorch_config
    from torch._guards import TracingContext, tracing
    from torch._inductor.compile_fx import compile_fx

    mode = fake_mode()
    with (
        generated_code() as code,
        kernels_later(),
        functorch_config.patch(enable_autograd_cache=False),
        tracing(TracingContext(mode)),  # type: ignore[arg-type]
    ):
        with mode:
            fakes = [torch.empty_strided(t.shape, t.stride, dtype=t.dtype, device=t.device) for t in types]
        compile_fx(module, fakes, config_patches=options)
    if len(code) != 1:
        raise RuntimeError(f"Inductor wrote {len(code)} modules for one graph.")
    return code[0]


def torch_containers() -> dict[type, tuple[Callable[[Any], Any], Callable[[Any, Any], Any]]]:
    """The containers that users have registered with torch, which has no public way to ask.

    Returns:
        For each type how to take one apart, to a list of children and a context, and how to make one of these.

    Example:
        >>> import dataclasses
        >>> Pair = dataclasses.make_dataclass("Pair", ["x", "y"])
        >>> torch.export.register_dataclass(Pair)
        >>> take_apart, make = torch_containers()[Pair]
        >>> children, context = take_apart(Pair(1, 2))
        >>> children, make([3, 4], context)
        ([1, 2], Pair(x=3, y=4))
    """
    from torch.utils import _pytree

    own = ("torch", "builtins", "collections")
    nodes = {kind: node for kind, node in _pytree.SUPPORTED_NODES.items() if kind.__module__.split(".")[0] not in own}
    return {kind: (node.flatten_fn, node.unflatten_fn) for kind, node in nodes.items()}


def call_of(names: dict[str, Any]) -> Callable[[list[torch.Tensor]], Sequence[torch.Tensor]]:
    """The function of a list of tensors, which it empties, that a source of `write_kernels` defines.

    Args:
        names: what the source defined. Where it is C++ throughout, its own function looks at the type of every argument
            first, in Python; the one given here does not.
    """
    entry = names.get("inductor_entry")
    if entry is None:
        return names["call"]
    tensors: Any = torch._C._aoti  # type: ignore[attr-defined]
    handles_of, tensors_of = (
        tensors.unsafe_alloc_void_ptrs_from_tensors,
        tensors.alloc_tensors_by_stealing_from_void_ptrs,
    )

    def call(inputs: list[torch.Tensor]) -> Sequence[torch.Tensor]:
        handles = handles_of(inputs)
        inputs.clear()
        return tensors_of(entry(handles))

    return call


@contextmanager
def kernels_later() -> Iterator[None]:
    """While open, generated code that this thread runs does not build its kernels, or does not wait for them."""
    from torch._inductor.async_compile import AsyncCompile
    from torch._inductor.codecache import CppWrapperCodeCache

    mine = threading.get_ident()
    wait, load = AsyncCompile.wait, CppWrapperCodeCache.load_pybinding

    def waiting(self: Any, scope: dict[str, Any]) -> None:
        return None if threading.get_ident() == mine else wait(self, scope)

    def loading(*args: Any, **kwargs: Any) -> Any:
        return None if threading.get_ident() == mine else load(*args, **kwargs)

    AsyncCompile.wait, CppWrapperCodeCache.load_pybinding = waiting, loading  # type: ignore[method-assign]
    try:
        yield
    finally:
        AsyncCompile.wait = wait  # type: ignore[method-assign]
        del CppWrapperCodeCache.load_pybinding  # it is its base's


def trust_the_processor() -> None:
    """Has Inductor use the vectors that the processor says it has.

    Inductor itself builds and loads a program for each kind first, in every process, which takes seconds. All it would
    find out is that the C++ compiler is older than the processor; then building a kernel fails, and says so.
    """
    from torch._inductor import config, cpu_vec_isa

    if config.cpp.vec_isa_ok is not None:  # the user has decided
        return
    before = cpu_vec_isa.VecISA.check_build
    cpu_vec_isa.VecISA.check_build = lambda self, code: True  # type: ignore[method-assign]
    try:
        cpu_vec_isa.valid_vec_isa_list()  # it keeps what it finds
    finally:
        cpu_vec_isa.VecISA.check_build = before  # type: ignore[method-assign]


def precompile_every_header() -> None:
    """Has Inductor precompile all that a CPU graph's C++ includes, not only the half of it.

    Its source includes a header for the calls and one for the kernels, and only the first is precompiled: reading the
    second takes half a second for every graph. From here on the two are precompiled as one, once on a machine.
    """
    from torch._inductor import codecache

    cache: Any = codecache.CppWrapperCodeCache
    kernels = codecache._get_cpp_prefix_header("cpu")

    def header(cls: Any, device: str) -> str:
        calls = codecache._get_cpp_wrapper_header(device)
        # Inductor writes `#include <HEADER>` around it.
        return f"{calls}>\n#include <{kernels}" if device.startswith("cpu") else calls

    cache._get_uncompiled_header = classmethod(header)


def compiler_settings() -> str:
    """A hash of what the user has set in Inductor's configuration, and the vectors that it makes code for."""
    from torch._inductor import config, cpu_vec_isa

    return f"{config.get_hash().hex()} {cpu_vec_isa.pick_vec_isa()}"


def same_memory(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors, real or fake, lie in the same memory."""
    return one.untyped_storage()._cdata == other.untyped_storage()._cdata


def compiler_cache() -> str | None:
    """The folder of Inductor's caches; None where they are switched off."""
    from torch._inductor import config
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    return None if config.force_disable_caches else cache_dir()


def onednn_linear() -> Callable[[torch.Tensor, torch.Tensor, torch.Tensor | None], torch.Tensor] | None:
    """oneDNN's `x @ weight.T + bias` for float32 matrices, which torch keeps for its compiler; None without oneDNN."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return None
    linear = torch.ops.mkldnn._linear_pointwise.default
    return lambda x, weight, bias: linear(x, weight, bias, "none", [], "")


def leave_pool(pool: torch.cuda.MemPool) -> None:
    """Has the allocator neither allocate from a pool nor keep its memory, whatever a broken recording has left of both.

    torch 2.13 undoes the first alone, so the memory would be kept for good; earlier ones do neither, so giving memory
    back would fail, too; later ones do both.

    Args:
        pool: of the current device, given to one recording, which has been reset.
    """
    end, release = torch._C._cuda_endAllocateToPool, torch._C._cuda_releasePool  # type: ignore[attr-defined]
    device = torch.cuda.current_device()
    try:
        end(device, pool.id)
    except RuntimeError as error:
        if "not currently recording" not in str(error):  # else torch has ended it
            raise
    while pool.use_count() > 1:  # one is the pool's own
        release(device, pool.id)


def complete_fused_updates() -> None:
    """Gives those fused updates of optimizers that cannot run without memory a form that does; they return nothing.

    torch has it for some of them and not for those with a tensor as learning rate, which therefore cannot be traced.
    """
    for name in _FUSED_UPDATES:
        if not torch._C._dispatch_has_kernel_for_dispatch_key(name, "Meta"):  # type: ignore[attr-defined]
            _LIBRARY.impl(name.removeprefix("aten::"), lambda *args, **kwargs: None)


_LIBRARY = torch.library.Library("aten", "IMPL", "Meta")  # what it registers lives as long as it does
_FUSED_UPDATES = [
    f"aten::_fused_{optimizer}_{overload}" for optimizer in ("adam", "adamw", "sgd") for overload in ("", ".tensor_lr")
]

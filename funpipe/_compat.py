"""The private corners of torch that have no public counterpart, one function each.

Every function here has a test in `tests/test_compat.py` that fails clearly when a torch release moves what it uses.
"""

import logging
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
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
def quiet_refusals() -> Iterator[None]:
    """While open, stand-ins do not log what they raise: a function may catch it, else its line is told."""
    log = logging.getLogger("torch._subclasses.fake_tensor")
    log.addFilter(_is_no_refusal)
    try:
        yield
    finally:
        log.removeFilter(_is_no_refusal)


def _is_no_refusal(record: logging.LogRecord) -> bool:
    return "failed while attempting to run meta" not in str(record.msg)


def seeing_operators(
    handle: Callable[[Any, tuple[Any, ...], dict[str, Any]], Any],
) -> AbstractContextManager[Any]:
    """A mode in which each operator goes through a function, below autograd and transforms.

    Args:
        handle: is given an operator, its arguments and its keywords, and returns its result; operators that it calls
            go to the modes that were open before.
    """
    from torch.utils._python_dispatch import TorchDispatchMode

    class Seeing(TorchDispatchMode):
        supports_higher_order_operators = True

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            return handle(func, args, kwargs or {})

    return Seeing()


@contextmanager
def outside_modes() -> Iterator[None]:
    """While open, tensors that are made are real ones, whatever modes are open."""
    from torch.utils._python_dispatch import _disable_current_modes

    with _disable_current_modes():
        yield


def traced_node(tensor: torch.Tensor) -> torch.fx.Node | None:
    """The node that stands for a tensor in the graph that is being traced; None where there is none."""
    from torch.fx.experimental.proxy_tensor import get_proxy_mode, get_proxy_slot

    mode = get_proxy_mode()
    found: Any = None if mode is None else get_proxy_slot(tensor, mode.tracer, None)
    return None if found is None else found.proxy.node


def traced_constant(name: str) -> Any:
    """What a `get_attr` node of the graph that is being traced stands for: a tensor that the function closed over."""
    from torch.fx.experimental.proxy_tensor import get_proxy_mode

    mode: Any = get_proxy_mode()
    return getattr(mode.tracer.root, name)


@contextmanager
def truncated_normals(draw: Callable[[torch.Tensor, float, float, float, float], torch.Tensor]) -> Iterator[None]:
    """While open, `torch.nn.init.trunc_normal_` calls a function, where its own reads values to draw some again.

    Args:
        draw: fills a tensor with normal numbers of a mean and a standard deviation, cut off at two ends.
    """
    from torch.nn import init

    before = init._no_grad_trunc_normal_

    def drawn(tensor: torch.Tensor, mean: float, std: float, a: float, b: float, generator: Any = None) -> torch.Tensor:
        return draw(tensor, mean, std, a, b)

    init._no_grad_trunc_normal_ = drawn
    try:
        yield
    finally:
        init._no_grad_trunc_normal_ = before


@contextmanager
def checkpoints_again(through: Callable[[Callable[..., Any]], Callable[..., Any]]) -> Iterator[None]:
    """While open, what `torch.utils.checkpoint` computes again in a backward is called through a function.

    Reentrant checkpoints become the others, for theirs cannot be differentiated by `torch.autograd.grad`.

    Args:
        through: from what a checkpoint was given to what is called when it computes it again.
    """
    with _INSTALLING:
        if not _AGAIN:
            _AGAIN.append(ContextVar("funpipe_checkpoints", default=None))
            _install_checkpoints(_AGAIN[0])
    before = _AGAIN[0].set(through)
    try:
        yield
    finally:
        _AGAIN[0].reset(before)


_INSTALLING = threading.Lock()
_AGAIN: list[ContextVar[Any]] = []


def _install_checkpoints(again: ContextVar[Any]) -> None:
    """Checkpoints made where nothing is set in `again` stay what they are."""
    from torch.utils import checkpoint as own

    plain, reentrant = own._checkpoint_without_reentrant_generator, own.CheckpointFunction.apply

    def generator(function: Any, *rest: Any, **options: Any) -> Any:
        through = again.get()
        return plain(through(function) if through else function, *rest, **options)

    def apply(function: Any, preserve: bool, *args: Any) -> Any:
        if again.get() is None:
            return reentrant(function, preserve, *args)
        if not any(isinstance(a, torch.Tensor) and a.requires_grad for a in args):
            with torch.no_grad():  # nothing in it is trained then
                return function(*args)
        return own.checkpoint(function, *args, use_reentrant=False, preserve_rng_state=preserve)

    own._checkpoint_without_reentrant_generator = generator
    own.CheckpointFunction.apply = apply  # type: ignore[method-assign]


@contextmanager
def unchecked_distributions() -> Iterator[None]:
    """While open, `torch.distributions` does not look at the values of what it is given."""
    from torch.distributions import Distribution

    with _INSTALLING:
        _UNCHECKED.append(Distribution._validate_args)
        Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        with _INSTALLING:
            first = _UNCHECKED[0]  # of several threads that trace, the last one to end puts back what was there first
            _UNCHECKED.pop()
            if not _UNCHECKED:
                Distribution.set_default_validate_args(first)


_UNCHECKED: list[bool] = []


@contextmanager
def through_compiled() -> Iterator[None]:
    """While open, tracing goes through modules and functions that are compiled, as if they were not."""
    if "torch._dynamo" not in sys.modules:  # then nothing is compiled, and loading it would take seconds
        yield
        return
    from torch._dynamo import config

    with config.patch(error_on_nested_fx_trace=False), _quiet_about_hooks():
        yield


@contextmanager
def _quiet_about_hooks() -> Iterator[None]:
    """While open, no word of hooks: they note which module an operation belongs to; once more does no harm."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Using `torch.compile.module.` when there are global hooks", UserWarning)
        yield


@contextmanager
def without_compiling() -> Iterator[None]:
    """While open, modules and functions that are compiled run as if they were not; generated code takes no fakes."""
    if "torch._dynamo" not in sys.modules:  # as above
        yield
        return
    with torch.compiler.set_stance("force_eager"), _quiet_about_hooks():
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
    return _written(module, types, [(t.shape, t.stride) for t in types], fake_mode(), options)


def write_kernels_for_sizes(
    module: torch.fx.GraphModule,
    types: Sequence[TensorType],
    layouts: Callable[[Any], Sequence[tuple[Sequence[Any], Sequence[Any]]]],
    size: int,
    options: dict[str, Any],
) -> tuple[str, str, list[str]]:
    """As `write_kernels`, for arguments of many sizes.

    Args:
        module: ATen operators and arithmetic of sizes.
        types: of its inputs, for dtypes and devices.
        layouts: gives sizes and strides of the inputs, where one size stands for any.
        size: an example of that size, at least 2.
        options: of Inductor.

    Returns:
        The source, the name of the size, and the conditions that the compiler took for granted, as expressions of it.
    """
    from torch._dynamo.source import ConstantSource
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.fx.experimental.symbolic_shapes import DimDynamic, ShapeEnv

    sizes = ShapeEnv()
    where = ConstantSource("size")
    symbol: Any = sizes.create_symbol(size, source=where, dynamic_dim=DimDynamic.DYNAMIC)
    any_size = sizes.create_symintnode(symbol, hint=size, source=where)
    mode = FakeTensorMode(allow_non_fake_inputs=True, shape_env=sizes)
    code = _written(module, types, layouts(any_size), mode, options)
    if symbol in sizes.replacements:
        return code, str(symbol), [f"Eq({symbol}, {sizes.replacements[symbol]})"]
    bounds = sizes.var_to_range[symbol]
    limits = [f"{symbol} >= {bounds.lower}"] if bounds.lower.is_Integer else []
    limits += [f"{symbol} <= {bounds.upper}"] if bounds.upper.is_Integer else []
    return code, str(symbol), [*limits, *(str(guard.expr) for guard in sizes.guards)]


def _written(
    module: torch.fx.GraphModule,
    types: Sequence[TensorType],
    layouts: Sequence[tuple[Sequence[Any], Sequence[Any]]],
    mode: Any,
    options: dict[str, Any],
) -> str:
    """What Inductor writes for a graph."""
    from torch._functorch import config as functorch_config
    from torch._guards import TracingContext, tracing
    from torch._inductor.compile_fx import compile_fx

    with (
        generated_code() as code,
        kernels_later(),
        functorch_config.patch(enable_autograd_cache=False),
        tracing(TracingContext(mode)),
    ):
        with mode:
            fakes = [
                torch.empty_strided(tuple(shape), tuple(stride), dtype=t.dtype, device=t.device)
                for t, (shape, stride) in zip(types, layouts, strict=True)
            ]
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


def register_container(
    kind: type, take_apart: Callable[[Any], tuple[list[Any], Any]], make: Callable[[Any, Any], Any]
) -> None:
    """Makes a type a container for torch.export, with a context of its own in each one.

    Args:
        kind: the type; once in a process.
        take_apart: gives the children of one, and a context, which has names of the children as its last item.
        make: makes one of children and a context.

    Example:
        >>> class Tagged(list):
        ...     pass
        >>> register_container(Tagged, lambda c: (list(c), (c.tag, "a")), lambda children, context: Tagged(children))
        >>> Tagged in torch_containers()
        True
    """
    from torch.utils import _pytree

    def with_keys(container: Any) -> tuple[list[Any], Any]:
        children, context = take_apart(container)
        return [(_pytree.GetAttrKey(n), c) for n, c in zip(context[-1], children, strict=True)], context

    _pytree.register_pytree_node(kind, take_apart, make, flatten_with_keys_fn=with_keys)


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


def version_of(tensor: torch.Tensor) -> int:
    """How often a tensor was written to in place, by itself or through a view; torch has no public name for it."""
    return tensor._version


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

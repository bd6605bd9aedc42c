"""Each private corner of torch that funpipe uses still is where `_compat.py` looks for it."""

import dataclasses
import inspect
import threading
import warnings

import pytest
import torch
from torch.fx.experimental.proxy_tensor import make_fx

from funpipe import _compat
from funpipe._typing import TensorType


def test_every_function_has_a_test_here():
    found = (n for n, f in vars(_compat).items() if inspect.isfunction(f) and f.__module__ == _compat.__name__)
    public = [n for n in found if not n.startswith("_")]
    tests = " ".join(n for n in globals() if n.startswith("test_"))
    assert [n for n in public if n not in tests] == []


def test_fake_mode_makes_tensors_without_memory():
    with _compat.fake_mode():
        huge = torch.empty(1 << 40, 1 << 10)
        assert (huge @ torch.empty(1 << 10, 3)).shape == (1 << 40, 3)


def test_fake_mode_takes_real_tensors_in():
    with _compat.fake_mode():
        made = torch.empty(3) + REAL
    assert made.shape == (3,) and _compat.is_fake(made)


REAL = torch.ones(3)


def test_quiet_refusals_are_raised_and_not_logged(caplog):
    def refused():
        with _compat.fake_mode(), pytest.raises(RuntimeError, match="same reduction dim"):
            torch.ones(2, 3) @ torch.ones(2, 3)

    with _compat.quiet_refusals():
        refused()
    assert "failed while" not in caplog.text
    refused()
    assert "failed while" in caplog.text


def test_seeing_operators_gives_each_to_the_function():
    seen = []

    def handle(func, args, kwargs):
        seen.append(str(func))
        return func(*args, **kwargs)

    with _compat.seeing_operators(handle):
        made = REAL * 2
    assert seen == ["aten.mul.Tensor"] and made.tolist() == [2.0] * 3


def test_write_kernels_for_sizes_gives_code_for_every_size():
    """Compiles, because the code is what is wanted."""
    graph = torch.fx.symbolic_trace(lambda x: (torch.ops.aten.mul.Tensor(x, 2),))
    kind = TensorType((4, 3), (3, 1), torch.float32)
    with _compat.quiet_compile():
        code, symbol, conditions = _compat.write_kernels_for_sizes(
            graph, [kind], lambda size: [((size, 3), (3, 1))], 4, {"cpp_wrapper": True, "fx_graph_cache": False}
        )
    names: dict = {"__name__": "test"}
    exec(code, names)
    for size in (2, 4, 9):
        (found,) = _compat.call_of(names)([torch.ones(size, 3)])
        assert torch.equal(found, torch.full((size, 3), 2.0))
    assert f"{symbol} >= 2" in conditions


def test_outside_modes_makes_real_tensors():
    with _compat.fake_mode(), _compat.outside_modes():
        assert torch.ones(3).tolist() == [1.0] * 3


def test_traced_node_and_traced_constant_are_those_of_the_open_trace():
    seen = []

    def read(x):
        seen.append(_compat.traced_node(x))
        return 7.0

    def function(x):
        doubled = x + REAL[:1]
        seen.append(doubled.sum().item())
        return doubled

    table = {torch.ops.aten._local_scalar_dense.default: read}
    make_fx(function, table, tracing_mode="fake", _allow_non_fake_inputs=True)(torch.ones(1))
    node, value = seen
    assert value == 7.0 and node.target is torch.ops.aten.sum.default and _compat.traced_node(REAL) is None
    constants = []

    def remember(x):
        (named,) = _compat.traced_node(x).graph.find_nodes(op="get_attr")
        constants.append(_compat.traced_constant(named.target))
        return 7.0

    table = {torch.ops.aten._local_scalar_dense.default: remember}
    make_fx(lambda x: x + (x + REAL).sum().item(), table, tracing_mode="fake", _allow_non_fake_inputs=True)(
        torch.ones(3)
    )
    assert constants[0] is REAL


def test_truncated_normals_takes_the_place_of_torchs_own():
    with _compat.truncated_normals(lambda tensor, mean, std, a, b: tensor.fill_(mean + std + a + b)):
        made = torch.nn.init.trunc_normal_(torch.empty(2), 1.0, 2.0, a=-3.0, b=4.0)
    assert made.tolist() == [4.0, 4.0] and torch.nn.init.trunc_normal_(torch.empty(100), b=1.0).max() <= 1


def test_is_fake_tells_them_apart():
    with _compat.fake_mode():
        fake = torch.empty(3)
    assert _compat.is_fake(fake)
    assert not _compat.is_fake(REAL) and not _compat.is_fake(torch.empty(3, device="meta"))


@pytest.mark.parametrize("in_place", [False, True])
def test_through_compiled_modules_goes_the_trace(in_place):
    module = torch.nn.ReLU()
    if in_place:
        module.compile(backend="eager")
    called = module if in_place else torch.compile(module, backend="eager")
    with _compat.through_compiled():
        graph = make_fx(called, tracing_mode="fake")(torch.ones(1, 2)).graph
    assert torch.ops.aten.relu.default in [node.target for node in graph.nodes]
    with pytest.raises(RuntimeError, match="dynamo-optimized"):
        make_fx(called, tracing_mode="fake")(torch.ones(1, 2))


def test_compiled_modules_run_as_they_are_without_compiling():
    class Counting(torch.nn.Module):
        calls = 0

        def forward(self, x):
            self.calls += not torch.compiler.is_compiling()
            return x

    module = Counting()
    called = torch.compile(module, backend="eager")
    with _compat.without_compiling():
        called(torch.ones(1))
    assert module.calls == 1


def test_generated_code_is_collected_and_put_back():
    """The only way to see what Inductor wrote: if it moves, no order of communication can be read back."""
    from torch._inductor.graph import GraphLowering

    before = GraphLowering.__dict__["save_output_code"]
    with _compat.generated_code() as code, _compat.quiet_compile():
        torch.compile(lambda x: torch.sin(x) * 3.25, fullgraph=True)(torch.zeros(5))
    assert any("def call(" in text and "3.25" in text for text in code)
    assert GraphLowering.__dict__["save_output_code"] is before


def test_generated_code_is_put_back_after_an_error():
    from torch._inductor.graph import GraphLowering

    before = GraphLowering.__dict__["save_output_code"]
    with pytest.raises(KeyError), _compat.generated_code():
        raise KeyError
    assert GraphLowering.__dict__["save_output_code"] is before


def test_quiet_compile_lets_the_warnings_of_others_through():
    with _compat.quiet_compile(), pytest.warns(UserWarning, match="mine"):
        warnings.warn("mine", UserWarning, stacklevel=1)


def test_quiet_compile_silences_torch():
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        with _compat.quiet_compile():
            warnings.warn_explicit("old", DeprecationWarning, "mkldnn.py", 1, module="torch.utils.mkldnn")
    assert seen == []


def sum_into(x, total):
    """Writes to its second argument."""
    total.add_(x)
    return (torch.sin(x) * 3.25,)


KIND = TensorType((5,), (1,), torch.float32)


def test_write_kernels_gives_a_module_that_runs_the_graph(tmp_path, monkeypatch):
    """Compiles, for what comes out is looked at: one module, whose `call` empties its list and writes in place."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    module = make_fx(sum_into, tracing_mode="fake")(torch.zeros(5), torch.zeros(5))
    with _compat.quiet_compile():
        code = _compat.write_kernels(module, [KIND, KIND], {"size_asserts": False})
        names = {"__name__": "generated"}
        exec(code, names)
    x, total = torch.arange(5.0), torch.ones(5)
    given = [x, total]
    (found,) = names["call"](given)
    assert given == [] and torch.equal(total, x + 1) and "assert_size_stride(" not in code.partition("def call(")[2]
    torch.testing.assert_close(found, torch.sin(x) * 3.25)


@pytest.mark.parametrize("count", [0, 2])
def test_write_kernels_wants_exactly_one_module(count, monkeypatch):
    from torch._inductor import compile_fx
    from torch._inductor.graph import GraphLowering

    def several(*args, **options):
        for _ in range(count):
            GraphLowering.save_output_code("code")

    monkeypatch.setattr(compile_fx, "compile_fx", several)
    module = make_fx(sum_into, tracing_mode="fake")(torch.zeros(5), torch.zeros(5))
    with pytest.raises(RuntimeError, match=f"Inductor wrote {count} modules for one graph"):
        _compat.write_kernels(module, [KIND, KIND], {})


def test_kernels_later_builds_and_waits_for_nothing_in_this_thread_and_is_put_back():
    from torch._inductor.async_compile import AsyncCompile
    from torch._inductor.codecache import CppWrapperCodeCache

    before, elsewhere = dict(vars(AsyncCompile)), []
    assert "load_pybinding" not in vars(CppWrapperCodeCache) and hasattr(CppWrapperCodeCache, "load_pybinding")
    with pytest.raises(KeyError), _compat.kernels_later():
        assert AsyncCompile().wait({"kernel": object()}) is None
        assert CppWrapperCodeCache.load_pybinding([], "no C++ at all") is None
        thread = threading.Thread(target=lambda: elsewhere.append(AsyncCompile().wait({})))
        thread.start()
        thread.join()
        raise KeyError
    assert elsewhere == [None] and vars(AsyncCompile)["wait"] is before["wait"]
    assert "load_pybinding" not in vars(CppWrapperCodeCache)


def test_trust_the_processor_builds_nothing(monkeypatch):
    from torch._inductor import cpu_vec_isa

    def build(self):
        raise AssertionError("built")

    monkeypatch.setattr("torch._inductor.cpp_builder.CppBuilder.build", build)
    cpu_vec_isa.valid_vec_isa_list.cache_clear()
    before = cpu_vec_isa.VecISA.check_build
    _compat.trust_the_processor()
    assert isinstance(cpu_vec_isa.pick_vec_isa(), cpu_vec_isa.VecISA)
    assert cpu_vec_isa.VecISA.check_build is before


def test_precompile_every_header_of_a_cpu_graph(tmp_path, monkeypatch):
    from torch._inductor import codecache

    class Asked(Exception):
        pass

    def precompile(header, hashable_cmd_line, **command):
        raise Asked(header)

    monkeypatch.setattr(codecache, "_precompile_header", precompile)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    _compat.precompile_every_header()
    with pytest.raises(Asked, match=r"cpp_wrapper/cpu.h>\n#include <torch/csrc/inductor/cpp_prefix.h$"):
        codecache.CppWrapperCodeCache.load_async("int number = 1;")()


def test_compiler_cache_is_where_the_user_says_or_nowhere(tmp_path, monkeypatch):
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    assert _compat.compiler_cache() == str(tmp_path)
    with config.patch(force_disable_caches=True):
        assert _compat.compiler_cache() is None


def test_onednn_linear_is_that_of_torch():
    linear = _compat.onednn_linear()
    x, weight, bias = torch.randn(5, 7), torch.randn(7, 3).t(), torch.randn(3)
    if torch.backends.mkldnn.is_available():
        assert linear is not None
        torch.testing.assert_close(linear(x, weight, bias), torch.nn.functional.linear(x, weight, bias))
        torch.testing.assert_close(linear(x, weight, None), torch.nn.functional.linear(x, weight))
    else:
        assert linear is None


def test_call_of_is_what_the_source_defines():
    def call(inputs):
        return inputs

    assert _compat.call_of({"call": call}) is call


def test_compiler_settings_tell_configurations_apart():
    from torch._inductor import config

    before = _compat.compiler_settings()
    with config.patch("cpp.simdlen", 256):
        assert _compat.compiler_settings() != before
    assert _compat.compiler_settings() == before


def test_same_memory_sees_through_views():
    with _compat.fake_mode():
        fake = torch.zeros(4)
    for tensor in (torch.zeros(4), fake):
        assert _compat.same_memory(tensor, tensor[1:]) and not _compat.same_memory(tensor, tensor.clone())


def test_generated_code_leaves_other_threads_alone(monkeypatch):
    from torch._inductor.graph import GraphLowering

    theirs: list[str] = []
    monkeypatch.setattr(GraphLowering, "save_output_code", staticmethod(theirs.append))
    with _compat.generated_code() as code:
        thread = threading.Thread(target=GraphLowering.save_output_code, args=["theirs"])
        thread.start()
        thread.join()
        GraphLowering.save_output_code("ours")
    assert (code, theirs) == (["ours"], ["theirs"])


class Pool:
    """A pool of memory, as its own and a recording's that was broken off."""

    id = (0, 7)

    def __init__(self, uses):
        self.uses = uses

    def use_count(self):
        return self.uses


@pytest.mark.parametrize("ended", [False, True], ids=["still allocating", "ended by torch"])
@pytest.mark.parametrize("uses", [2, 1], ids=["still held", "released by torch"])
def test_leave_pool_undoes_what_torch_has_left(monkeypatch, ended, uses):
    """What each release of torch leaves after a broken recording; the names must be there without a GPU, too."""
    pool, calls = Pool(uses), []

    def end(device, pool_id):
        calls.append(("end", device, pool_id))
        if ended:
            raise RuntimeError("endAllocatePool: not currently recording to mempool_id")

    def release(device, pool_id):
        calls.append(("release", device, pool_id))
        pool.uses -= 1

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end)
    monkeypatch.setattr(torch._C, "_cuda_releasePool", release)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    _compat.leave_pool(pool)
    assert calls == [("end", 3, (0, 7)), ("release", 3, (0, 7))][:uses] and pool.uses == 1


def test_leave_pool_raises_what_it_does_not_expect(monkeypatch):
    def end(device, pool_id):
        raise RuntimeError("Invalid device argument")

    monkeypatch.setattr(torch._C, "_cuda_endAllocateToPool", end)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    with pytest.raises(RuntimeError, match="Invalid device argument"):
        _compat.leave_pool(Pool(2))


def test_leave_pool_is_given_pools_that_can_be_counted():
    assert callable(torch.cuda.MemPool.use_count) and isinstance(torch.cuda.MemPool.id, property)


def test_torch_containers_are_what_users_have_registered():
    @dataclasses.dataclass
    class Pair:
        x: int
        y: int

    assert Pair not in _compat.torch_containers()
    torch.export.register_dataclass(Pair)
    known = _compat.torch_containers()
    take_apart, make = known[Pair]
    children, context = take_apart(Pair(1, 2))[:2]
    assert (children, make([3, 4], context)) == ([1, 2], Pair(3, 4))
    assert not {tuple, list, dict, torch.Size} & known.keys()


def test_register_container_gives_each_container_a_context_of_its_own():
    class Named(dict):
        pass

    _compat.register_container(
        Named,
        lambda named: (list(named.values()), (tuple(named),)),
        lambda children, context: Named(zip(context[0], children, strict=True)),
    )
    program = torch.export.export(_Doubled(), (Named(a=torch.ones(2)),), strict=False)
    out = program.module()(Named(a=torch.full((2,), 3.0)))
    assert type(out) is Named and out["a"].tolist() == [6.0, 6.0]


class _Doubled(torch.nn.Module):
    def forward(self, named):
        return type(named)({name: 2 * child for name, child in named.items()})


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_complete_fused_updates_has_those_with_a_tensor_as_rate_run_without_memory(name):
    _compat.complete_fused_updates()
    _compat.complete_fused_updates()  # what is there is left alone
    update = getattr(torch.ops.aten, f"_fused_{name}_").tensor_lr
    own = {"momentum": 0.9, "dampening": 0.0, "nesterov": False, "is_first_step": False}
    own = own if name == "sgd" else {"beta1": 0.9, "beta2": 0.9, "eps": 1e-8, "amsgrad": False}
    lists = [[torch.ones(2, device="meta")] for _ in range(3 if name == "sgd" else 4)]
    lists += [] if name == "sgd" else [[], [torch.ones((), device="meta")]]
    assert update(*lists, lr=torch.tensor(0.1), weight_decay=0.0, maximize=False, **own) is None


@pytest.mark.parametrize("reentrant", [True, False])
def test_checkpoints_again_calls_what_is_computed_again_through_a_function(reentrant):
    calls, x = [], torch.ones(2, requires_grad=True)

    def through(function):
        return lambda *args: calls.append("again") or function(*args)

    with _compat.checkpoints_again(through):
        out = torch.utils.checkpoint.checkpoint(torch.exp, x, use_reentrant=reentrant)
    assert calls == []
    assert torch.equal(torch.autograd.grad(out.sum(), [x])[0], torch.ones(2).exp()) and calls == ["again"]


def test_install_checkpoints_leaves_a_reentrant_one_without_gradients_as_it_is():
    def layer(x):
        return torch.ones(2, requires_grad=True) * x

    with _compat.checkpoints_again(lambda function: function), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch says that nothing is trained
        assert not torch.utils.checkpoint.checkpoint(layer, torch.ones(2), use_reentrant=True).requires_grad


def test_unchecked_distributions_are_checked_again_when_the_last_trace_ends(monkeypatch):
    from torch.distributions import Distribution, Normal

    monkeypatch.setattr(Distribution, "_validate_args", True)  # compiling has switched it off for the process
    first, second = _compat.unchecked_distributions(), _compat.unchecked_distributions()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    Normal(torch.zeros(()), -torch.ones(()))
    second.__exit__(None, None, None)
    with pytest.raises(ValueError, match="scale"):
        Normal(torch.zeros(()), -torch.ones(()))


def test_version_of_counts_writes_also_through_views():
    x = torch.ones(4)
    before = _compat.version_of(x)
    x[:2].add_(1)
    assert _compat.version_of(x) == before + 1
    assert _compat.version_of(x + 1) == 0

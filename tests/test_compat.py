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
    public = [n for n, f in vars(_compat).items() if inspect.isfunction(f) and f.__module__ == _compat.__name__]
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

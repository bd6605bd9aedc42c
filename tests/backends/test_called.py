"""Kernels read from generated code; a canned module stands for what the compiler writes."""

from funpipe.backends.called import called

CPU = '''
cpp_fused_tanh_0 = async_compile.cpp_pybinding(["float*"], r"""not_called(x);""")

class Runner:
    def recursively_apply_fns(self, fns):
        other(fns)

    def call(self, args):
        arg0_1, arg1_1 = args
        args.clear()
        buf0 = empty_strided_cpu((2, 6), (6, 1), torch.float32)
        extern_kernels.mm(arg0_1, reinterpret_tensor(arg1_1, (6, 2), (1, 6), 0), out=buf0)
        del arg0_1
        buf1 = buf0; del buf0  # reuse
        cpp_fused_tanh_0(buf1)
        buf2 = torch.ops.mkldnn._linear_pointwise.default(buf1, arg1_1, None, 'none', [], '')
        assert_size_stride(buf2, (2, 6), (6, 1), 'torch.ops.mkldnn._linear_pointwise.default')
        buf3 = reinterpret_tensor(buf2, (12,), (1,), 0)
        return (buf3, )

runner = Runner(partitions=[])
call = runner.call

def get_args():
    arg0_1 = rand_strided((6, ), (1, ), device='cpu', dtype=torch.float32)
    return [arg0_1]
'''

GPU = """
def call(args):
    with torch.cuda._DeviceGuard(0):
        torch.cuda.set_device(0)
        buf0 = empty_strided_cuda((2, 6), (6, 1), torch.float32)
        stream0 = get_raw_stream(0)
        triton_poi_fused_add_0.run(args[0], buf0, 12, stream=stream0)
        buf1 = torch.ops.aten._flash_attention_forward.default(buf0)
        buf2 = buf1[0]
    return (buf2, )
"""


def test_kernels_and_library_calls_in_order():
    assert called(CPU) == ("extern_kernels.mm", "cpp_fused_tanh_0", "mkldnn._linear_pointwise")


def test_those_under_a_choice_of_device():
    assert called(GPU) == ("triton_poi_fused_add_0", "aten._flash_attention_forward")


CPP = """
extern "C" void cpp_fused_gelu_0(const float* in_ptr0, float* out_ptr0);
void inductor_entry_impl(AtenTensorHandle* input_handles, AtenTensorHandle* output_handles) {
    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_empty_strided(2, int_array_0, int_array_1, &buf0_handle));
    AOTI_TORCH_ERROR_CODE_CHECK(aoti_torch_cpu_mm_out(buf0, arg0_1, arg1_1));
    cpp_fused_gelu_0((const float*)(buf0.data_ptr()), (float*)(buf1.data_ptr()));
    aoti_torch_call_dispatcher("funpipe::mm", "", dispatch_vars.data())
} // inductor_entry_impl
void other() { cpp_fused_never_1(); }
"""


def test_calls_between_kernels_in_cpp_are_read_too():
    assert called(CPP) == ("mm_out", "cpp_fused_gelu_0", "funpipe::mm")

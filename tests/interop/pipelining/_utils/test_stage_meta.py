import pytest
import torch
from torch.distributed.tensor import Shard

from funpipe.interop.pipelining._utils import InferenceMode, _StageMeta, extract_tensor_metas
from tests.interop.pipelining.meshes import fake_ranks, shard

plain = extract_tensor_metas((torch.ones(1),))


def test_what_is_known():
    assert not _StageMeta().has_any() and _StageMeta(output_grads=(None,)).has_any()
    assert not _StageMeta(inputs=plain).is_complete_for_forward()
    assert _StageMeta(inputs=plain, outputs=()).is_complete_for_forward()
    assert not _StageMeta(plain, plain).has_dtensors()


@pytest.mark.parametrize("backward", [True, False])
def test_plain_tensors_need_inputs_and_outputs(backward):
    assert InferenceMode.needs_dynamic(_StageMeta(inputs=plain), backward)
    assert not InferenceMode.needs_dynamic(_StageMeta(plain, plain), backward)


def test_dtensors_need_their_gradients_too():
    with fake_ranks(2):
        metas = extract_tensor_metas((shard(1, Shard(0)),))
    assert _StageMeta(metas, metas).has_dtensors()
    assert InferenceMode.needs_dynamic(_StageMeta(metas, metas, None, metas), stage_has_backward=True)
    assert not InferenceMode.needs_dynamic(_StageMeta(metas, metas), stage_has_backward=False)
    assert not InferenceMode.needs_dynamic(_StageMeta(metas, metas, metas, metas), stage_has_backward=True)


def test_the_values_of_the_modes():
    assert [mode.value for mode in InferenceMode] == ["static", "dynamic"]

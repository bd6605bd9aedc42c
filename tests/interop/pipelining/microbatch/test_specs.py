from funpipe.interop.pipelining.microbatch import TensorChunkSpec, _Replicate
from funpipe.interop.pipelining.microbatch.specs import replicates


def test_a_spec_prints_as_its_call():
    assert str(TensorChunkSpec(-1)) == "TensorChunkSpec(-1)"
    assert repr(TensorChunkSpec(0)) == "funpipe.interop.pipelining.microbatch.TensorChunkSpec(0)"


def test_specs_of_positional_and_of_keyword_arguments():
    assert TensorChunkSpec.from_tuple((0, 1)) == (TensorChunkSpec(0), TensorChunkSpec(1))
    assert TensorChunkSpec.from_dict({"x": 1}) == {"x": TensorChunkSpec(1)}


def test_replicate_is_meant_by_the_class_and_by_an_instance():
    assert replicates(_Replicate) and replicates(_Replicate())
    assert not replicates(TensorChunkSpec(0)) and not replicates(None)

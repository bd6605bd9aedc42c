import pickle
import subprocess
import sys
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import optree
import pytest
import torch
from torch import Tensor

from funpipe.interop.pipelining.microbatch import (
    TensorChunkSpec,
    _Replicate,
    merge_chunks,
    split_args_kwargs_into_chunks,
)
from funpipe.interop.pipelining.trees import (
    NAMESPACE,
    broadcast,
    flatten,
    flatten_with_names,
    packed,
    unflatten,
    unpacked,
)
from tests.interop.pipelining.trees_elsewhere import Pair

ROOT = Path(__file__).resolve().parents[3]


def registered():
    """A dataclass that torch knows, another one for each test."""

    @dataclass
    class Masked:
        x: Tensor
        mask: Tensor
        scale: float = 1.0

    torch.export.register_dataclass(Masked)
    return Masked


def test_leaves_come_in_tree_order_and_none_is_one():
    leaves, structure = flatten({"b": [1, None], "a": OrderedDict(z=2, y=(3,))})
    assert leaves == [2, 3, 1, None]
    assert unflatten(structure, "wxyz") == {"b": ["y", "z"], "a": OrderedDict(z="w", y=("x",))}


def test_what_torch_knows_is_taken_apart_and_made_again():
    masked = registered()
    x, mask = torch.ones(2), torch.zeros(2)
    leaves, structure = flatten({"in": [masked(x, mask, 2.0)]})
    assert leaves[0] is x and leaves[1] is mask and leaves[2] == 2.0
    made = unflatten(structure, [1, 2, 3])["in"][0]
    assert made == masked(1, 2, 3)


def test_containers_in_containers_are_found():
    outer, inner = registered(), registered()
    assert flatten(outer(inner(1, 2), 3))[0] == [1, 2, 1.0, 3, 1.0]


def test_only_this_layer_learns_of_them():
    value = registered()(1, 2)
    flatten(value)
    assert optree.tree_leaves(value) == [value] and optree.tree_leaves(value, namespace=NAMESPACE) == [1, 2, 1.0]


def test_what_torch_does_not_know_is_a_leaf():
    value = object()
    assert flatten((value,))[0] == [value]


def test_threads_may_find_the_same_container_at_once():
    value, found = registered()(1, 2), []
    threads = [Thread(target=lambda: found.append(flatten(value)[0])) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [[1, 2, 1.0]] * 8


def test_names_are_paths_in_python():
    assert flatten_with_names({"a": [1], "b": 2}, "kwargs")[0] == ["kwargs['a'][0]", "kwargs['b']"]


@pytest.mark.parametrize(
    ("prefix", "tree", "expected"),
    [("s", (1, [2]), ["s", "s"]), ((None, "t"), ([1, 2], 3), [None, None, "t"]), (("s",), (1, 2), None), ({}, 1, None)],
)
def test_a_prefix_stands_for_what_is_below(prefix, tree, expected):
    assert broadcast(prefix, tree) == expected


def test_arguments_in_a_container_that_torch_knows_are_cut_and_merged():
    masked = registered()
    whole = masked(torch.arange(4), torch.arange(8).view(2, 4))
    spec = masked(TensorChunkSpec(0), TensorChunkSpec(1), _Replicate)
    args, _ = split_args_kwargs_into_chunks((whole,), {}, 2, (spec,))
    assert [chunk.x.tolist() for (chunk,) in args] == [[0, 1], [2, 3]]
    assert [chunk.mask.shape for (chunk,) in args] == [(2, 2), (2, 2)]
    (merged,) = merge_chunks(args, (spec,))
    assert type(merged) is masked and torch.equal(merged.mask, whole.mask) and merged.scale == 1.0


_SCRIPT = """
import pickle, sys
from tests.interop.pipelining.trees_elsewhere import Pair
from funpipe.interop.pipelining.trees import unflatten, unpacked
print(unflatten(unpacked(pickle.loads(sys.stdin.buffer.read())), [1, 2, 3]))
"""


def test_another_process_learns_the_containers_of_a_structure():
    structure = flatten([Pair(1, {"z": 2}), 3])[1]
    assert unpacked(packed(structure)) == structure
    command = [sys.executable, "-c", _SCRIPT]
    done = subprocess.run(command, input=pickle.dumps(packed(structure)), capture_output=True, cwd=ROOT, timeout=120)
    assert done.stdout.decode().strip() == "[Pair(x=1, y={'z': 2}), 3]", done.stderr.decode()

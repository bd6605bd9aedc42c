import torch

from funpipe.interop.pipelining._utils import flatten_args, flatten_args_detach


def test_leaves_come_in_tree_order_and_none_is_one():
    assert flatten_args((1, [2, {"b": 4, "a": (3,)}], None)) == [1, 2, 3, 4, None]


def test_detached_leaves_require_gradients_where_the_originals_do():
    leaf = torch.ones(1, requires_grad=True)
    made, plain = leaf * 2, torch.ones(1)
    tree, leaves = flatten_args_detach((made, {"plain": plain, "word": "x"}))
    assert leaves[0] is tree[0] and leaves[1] is tree[1]["plain"] and leaves[2] == tree[1]["word"] == "x"
    assert tree[0].is_leaf and tree[0].requires_grad and not tree[1]["plain"].requires_grad
    assert tree[0].data_ptr() == made.data_ptr()


def test_detach_is_an_option_of_the_same_function():
    leaf = torch.ones(1, requires_grad=True)
    (tree,), leaves = flatten_args((leaf,), detach=True)
    assert leaves == [tree] and tree is not leaf

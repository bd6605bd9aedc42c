"""The inputs of a graph module by name, while others add and remove some."""

from collections.abc import Sequence

from torch import Tensor, fx

from funpipe.interop.spmd.errors import SpmdValueError


def without_unread(module: fx.GraphModule, prefix: str) -> None:
    """Removes inputs that nothing reads, in place.

    Args:
        module: `meta["inputs"]` names its placeholders.
        prefix: of the names of those that may be removed.
    """
    names = dict(zip(module.graph.find_nodes(op="placeholder"), module.meta["inputs"], strict=True))
    if any(name.startswith(prefix) and node.users for node, name in names.items()):
        return  # all or none: the same call has the same gradients
    for node in [node for node, name in names.items() if name.startswith(prefix)]:
        module.graph.erase_node(node)
    module.meta["inputs"] = tuple(name for name in names.values() if not name.startswith(prefix))
    module.recompile()


def updated(module: fx.GraphModule) -> frozenset[str]:
    """The inputs whose outputs of the same name are other values.

    Args:
        module: `meta["inputs"]` and `meta["outputs"]` name its inputs and outputs.
    """
    given = dict(zip(module.meta["inputs"], module.graph.find_nodes(op="placeholder"), strict=True))
    (returned,) = module.graph.find_nodes(op="output")[0].args
    pairs = zip(module.meta["outputs"], returned, strict=True)
    return frozenset(name for name, value in pairs if name in given and value is not given[name])


class Named:
    """Keeps the names of a module's inputs right, and the tensors that belong to new ones.

    Args:
        module: `meta["inputs"]` and `meta["outputs"]` name its inputs and outputs.
        flat: the tensors of its first inputs; whoever adds an input there adds its tensor here, as `Override.transform`
            says.
    """

    def __init__(self, module: fx.GraphModule, flat: list[Tensor]) -> None:
        self.flat = flat
        self.added: dict[str, Tensor] = {}
        self._outputs = module.meta["outputs"]
        self._of_tensor = {id(x): name for x, name in zip(flat, module.meta["inputs"], strict=False)}
        self._kept = list(flat)  # so that no id is used twice
        self._rest: Sequence[str] = module.meta["inputs"][len(flat) :]

    def after(self, module: fx.GraphModule) -> fx.GraphModule:
        """The module after somebody changed it, with the names of what it has now.

        Args:
            module: what came back.

        Raises:
            SpmdValueError: it has other inputs than tensors were given for.
        """
        if not isinstance(module, fx.GraphModule):
            raise SpmdValueError(
                f"transform gave a {type(module).__name__} and not a graph module: return the module it was given, "
                "changed or not."
            )
        names = tuple(self._name(i, x) for i, x in enumerate(self.flat))
        count = len(module.graph.find_nodes(op="placeholder"))
        if count != len(names) + len(self._rest):
            raise SpmdValueError(
                f"the graph has {count} inputs after transform, and flat_state makes {len(names) + len(self._rest)} of "
                "them: insert a tensor into flat_state where a placeholder was added, remove it where one was erased."
            )
        module.meta["inputs"], module.meta["outputs"] = (*names, *self._rest), self._outputs
        return module

    def _name(self, index: int, tensor: Tensor) -> str:
        if id(tensor) not in self._of_tensor:
            self._of_tensor[id(tensor)] = name = f"batch.added.{len(self.added)}"
            self.added[name] = tensor
        return self._of_tensor[id(tensor)]

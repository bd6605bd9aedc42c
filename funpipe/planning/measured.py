"""`Measured`: costs that were measured on a machine, to cut by, to plan with, and to keep in a file."""

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, final

from torch import Tensor, fx

from funpipe._errors import FunpipeError
from funpipe._typing import TensorType
from funpipe.stages.costs import bytes_of, computes, flops_of, is_product

VERSION = 1
"""Of the files."""


@final
@dataclass(frozen=True)
class Measured:
    """Measured costs; made by `profile`.

    A node that was not measured (another batch size, say) costs its share of what was: its operations at the rate of
    the measured products, or its bytes at the rate of the other nodes, whichever takes longer.

    Args:
        nodes: the time of a node in seconds, by its signature: operator, numbers, types.
        flops: floating-point operations per second of the measured products.
        bandwidth: bytes per second, read and written, of the other measured nodes.
        latency: seconds until the smallest message is there.
        link: bytes per second between two ranks.
        backend: what ran: `"step"`, compiled; or `"interpret"`, operator by operator.
        together: how many ranks measured at the same time.

    Example:
        >>> costs = Measured({}, flops=1e9, bandwidth=1e9, latency=1e-5, link=1e9)
        >>> round(costs.transfer(1000), 9), costs.transfer(0)
        (1.1e-05, 0.0)
    """

    nodes: dict[str, float] = field(hash=False)
    flops: float
    bandwidth: float
    latency: float
    link: float
    backend: str = "step"
    together: int = 1

    def node(self, node: fx.Node) -> float:
        """The time of one node, in seconds; views, and the parts of several results, are free."""
        if not computes(node):
            return 0.0
        known = self.nodes.get(signature(node))
        if known is not None:
            return known
        operations = flops_of(node) / self.flops if is_product(node) else 0.0
        return max(operations, bytes_of(node) / self.bandwidth)

    def transfer(self, nbytes: int) -> float:
        """The time until a message is there, in seconds: the latency, and its bytes over the link's bandwidth."""
        return self.latency + nbytes / self.link if nbytes else 0.0

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes the costs to a JSON file.

        Args:
            path: of the file.
        """
        Path(path).write_text(json.dumps({"version": VERSION, **asdict(self)}, indent=1))

    @staticmethod
    def load(path: str | os.PathLike[str]) -> "Measured":
        """Reads costs that `save` wrote.

        Args:
            path: of the file.

        Raises:
            FunpipeError: the file is none of these.
        """
        text = Path(path).read_text()
        try:
            content = json.loads(text)
            version = content.pop("version")
            made = Measured(**content)
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise FunpipeError(f"{path} holds no measured costs; write it with Measured.save.") from error
        if version != VERSION:
            raise FunpipeError(f"{path} is of version {version}, and this is {VERSION}: measure and save again.")
        return made

    def as_text(self) -> str:
        """The rates, and the operators that take the longest."""
        head = [
            f"{self.backend}, measured by {self.together} rank{'s' if self.together > 1 else ''} at once",
            f"products {self.flops / 1e9:.2f} GFLOP/s, other operators {self.bandwidth / 1e9:.2f} GB/s",
            f"messages {self.latency * 1e6:.1f} us and {self.link / 1e9:.2f} GB/s",
        ]
        longest = sorted(self.nodes.items(), key=lambda item: -item[1])[:10]
        return "\n".join([*head, *(f"{1e6 * seconds:10.1f} us  {name[:100]}" for name, seconds in longest)])


def signature(node: fx.Node) -> str:
    """What the time of a node depends on: its operator, its numbers, and the types of what it reads.

    Args:
        node: with `meta["val"]`; the same node, copied into a region, has the same.
    """
    given = [*node.args, *(item for pair in sorted(node.kwargs.items()) for item in pair)]
    return f"{node.target}({', '.join(map(_text, given))})"


def _text(argument: Any) -> str:
    if isinstance(argument, fx.Node):
        return ", ".join(map(_type_text, _tensors(argument.meta.get("val"))))
    if isinstance(argument, list | tuple):
        return f"[{', '.join(map(_text, argument))}]"
    return str(argument)


def _type_text(tensor: Tensor) -> str:
    kind = TensorType.of(tensor)
    return f"{kind}{'' if tensor.is_contiguous() else kind.stride} {kind.device}"


def _tensors(value: Any) -> Iterable[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    return [t for item in value for t in _tensors(item)] if isinstance(value, list | tuple) else []

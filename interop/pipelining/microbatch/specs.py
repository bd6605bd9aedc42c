"""What a user says of one leaf: cut it along a dimension, or give every microbatch all of it."""

from dataclasses import dataclass

MODULE = "funpipe.interop.pipelining.microbatch"  # where users import it from


@dataclass(frozen=True, repr=False)
class TensorChunkSpec:
    """Cuts a tensor into chunks along one dimension.

    Args:
        split_dim: The dimension; negative ones count from the last.

    Example:
        >>> print(TensorChunkSpec(1), TensorChunkSpec(1).split_dim)
        TensorChunkSpec(1) 1
    """

    split_dim: int

    def __repr__(self) -> str:
        return f"{MODULE}.{self}"

    def __str__(self) -> str:
        return f"TensorChunkSpec({self.split_dim})"

    @staticmethod
    def from_tuple(chunk_dims: tuple[int, ...]) -> tuple["TensorChunkSpec", ...]:
        """The specs of positional arguments.

        Args:
            chunk_dims: A dimension for each.

        Example:
            >>> [str(spec) for spec in TensorChunkSpec.from_tuple((0, 1))]
            ['TensorChunkSpec(0)', 'TensorChunkSpec(1)']
        """
        return tuple(map(TensorChunkSpec, chunk_dims))

    @staticmethod
    def from_dict(chunk_dims: dict[str, int]) -> dict[str, "TensorChunkSpec"]:
        """The specs of keyword arguments.

        Args:
            chunk_dims: A dimension for each name.

        Example:
            >>> str(TensorChunkSpec.from_dict({"mask": 1})["mask"])
            'TensorChunkSpec(1)'
        """
        return {name: TensorChunkSpec(dim) for name, dim in chunk_dims.items()}


class _Replicate:
    """Gives every chunk the same value; used as the class itself or as an instance.

    Example:
        >>> replicates(_Replicate), replicates(_Replicate()), replicates(None)
        (True, True, False)
    """


def replicates(spec: object) -> bool:
    """Whether a spec is `_Replicate`, the class or an instance.

    Args:
        spec: One leaf of a spec.
    """
    return spec is _Replicate or isinstance(spec, _Replicate)

"""What stages are called in the graph of a pipeline."""

PP_SUBMOD_PREFIX = "submod_pp"


def get_submod_name(stage_idx: int) -> str:
    """The name of a stage's module.

    Args:
        stage_idx: its index.

    Returns:
        The name, as in `Pipe.replicated_params` and in the graph of `Pipe.info()`.

    Example:
        >>> get_submod_name(3)
        'submod_pp_3'
    """
    return f"{PP_SUBMOD_PREFIX}_{stage_idx}"


def stage_index(name: str) -> int:
    """The stage of such a name.

    Args:
        name: as `get_submod_name` gives it.

    Example:
        >>> stage_index("submod_pp_3")
        3
    """
    return int(name.removeprefix(f"{PP_SUBMOD_PREFIX}_"))

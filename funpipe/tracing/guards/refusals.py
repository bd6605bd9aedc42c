"""Why a value cannot be read in Python while a function is traced, and what to do instead."""

from funpipe.functional.tree import place
from funpipe.tracing.where import user_line

_INSTEAD = "use torch.where or a mask, or compute the value outside of it and pass it in the batch."


def kind_text(what: str, kind: str, name: str) -> str:
    """For a value that comes from a leaf that changes with every step."""
    leaf = {"param": f"the parameter {name!r}", "state": f"the state leaf {name!r}"}.get(kind, "a random key")
    return _text(
        what,
        f"It depends on {leaf}, which every step changes, so no graph could hold for it: {_INSTEAD}",
    )


def random_text(what: str, operator: str) -> str:
    """For a value that is drawn."""
    return _text(what, f"It comes from random numbers ({operator}), which differ in every step: {_INSTEAD}")


def updated_text(what: str, buffer: str) -> str:
    """For a value that comes from a buffer that the function updates itself."""
    return _text(
        what,
        f"It depends on the buffer {buffer!r}, which the function updates, so it would be another one for each "
        "microbatch: use torch.where or a mask, or keep what is read out of the buffers and pass it in the batch.",
    )


def empty_text(what: str, kind: str, name: str) -> str:
    """For a value that comes from a leaf without values."""
    if kind == "batch":
        leaf = place(name)
        return _text(
            what,
            f"It depends on the batch, of which {leaf} has no values here: pass a real batch (not one on the meta "
            f"device), whose value becomes a constant that every step checks, or {_INSTEAD}",
        )
    return _text(
        what,
        f"It depends on the buffer {name!r}, whose values are not known here, or change while the model trains: pass "
        f"it in the batch, or {_INSTEAD}",
    )


def _text(what: str, why: str) -> str:
    return f"{what} reads a tensor's value in Python at {user_line() or 'an unknown line'}. {why}"

"""The rules of the house: which folder may import which, and what stays out of it.

Read from the source, so that a rule holds for code that no test runs.
"""

import ast
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A folder (or file) imports from the layers above it in this list and never from its own layer.
LAYERS = (
    {"_errors", "_typing", "_compat", "_trace_events"},
    {"functional", "schedules"},
    {"graphs"},
    {"tracing"},
    {"optim", "stages"},
    {"programs"},
    {"passes"},
    {"backends"},
    {"display", "planning", "runtime"},
    {"_api"},
    {"interop", "__main__"},
)
LAYER = {name: depth for depth, names in enumerate(LAYERS) for name in names}
# What the smallest files may share among themselves.
SHARED = LAYERS[0]


def _modules() -> dict[str, Path]:
    """Every module of the package by its dotted name, `funpipe.interop` by way of its link."""
    files = [*ROOT.glob("funpipe/**/*.py"), *ROOT.glob("funpipe/interop/**/*.py")]
    return {_dotted(file.relative_to(ROOT)): file for file in files}


def _dotted(path: Path) -> str:
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = _modules()
TREES = {name: ast.parse(file.read_text()) for name, file in MODULES.items()}
TABLES = [name for name, file in MODULES.items() if file.name == "__init__.py"]


def imports(tree: ast.AST) -> Iterator[str]:
    """The dotted names a module imports anywhere in it, those inside functions included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer_of(dotted: str) -> str:
    """`funpipe.stages.cut` → `stages`; the root package is ``""``."""
    return (dotted.split(".") + [""])[1]


def wrong_imports(module: str, tree: ast.AST) -> list[str]:
    """What `module` imports against the direction."""
    here = layer_of(module)
    return [name for name in imports(tree) if name.split(".")[0] == "funpipe" and not _allowed(here, layer_of(name))]


def _allowed(here: str, there: str) -> bool:
    """Whether folder `here` may import folder `there`; only the root and interop may import the root."""
    if here in ("", there) or (here in SHARED and there in SHARED):
        return True
    if here == "interop":
        return not there.startswith("_")
    return LAYER.get(there, len(LAYERS)) < LAYER[here]


def private_torch(tree: ast.AST) -> list[str]:
    """Every private name below `torch` that a module imports, reaches by attributes or names in a string."""
    bound = _torch_names(tree)
    chains = (_chain(node, bound) for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    strings = (n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str))
    return sorted({name for name in [*imports(tree), *chains, *strings] if _is_private(name)})


def _torch_names(tree: ast.AST) -> dict[str, str]:
    """Local names that stand for torch or something in it: `import torch.fx as fx` gives `{"fx": "torch.fx"}`."""
    bound = {"torch": "torch"}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            bound |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            bound |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return {local: full for local, full in bound.items() if full.split(".")[0] == "torch"}


def _chain(node: ast.expr, bound: dict[str, str]) -> str:
    """`a.b.c` as a dotted name with `a` resolved; empty for an attribute of anything else."""
    if isinstance(node, ast.Attribute):
        base = _chain(node.value, bound)
        return f"{base}.{node.attr}" if base else ""
    return bound.get(node.id, "") if isinstance(node, ast.Name) else ""


def _is_private(dotted: str) -> bool:
    """Dunders are public, and so are the names of operators below `torch.ops`, whatever they begin with."""
    if re.match(r"functorch(\.|$)", dotted):
        return True
    return re.match(r"torch(?!\.ops\.)(\.\w+)*\._(?!_)\w+(\.\w+)*$", dotted) is not None


@pytest.mark.parametrize("module", sorted(MODULES))
def test_imports_go_one_way(module):
    assert layer_of(module) in {"", *LAYER}, f"{module} is in no layer: add it to LAYERS and docs/architecture.md"
    assert wrong_imports(module, TREES[module]) == []


@pytest.mark.parametrize("module", sorted(m for m in MODULES if layer_of(m) == "schedules"))
def test_schedules_know_no_device(module):
    allowed = {*sys.stdlib_module_names, "numpy", "funpipe.schedules", "funpipe._errors"}
    assert [n for n in imports(TREES[module]) if not allowed & {n.split(".")[0], ".".join(n.split(".")[:2])}] == []


@pytest.mark.parametrize("module", sorted(m for m in MODULES if m != "funpipe._compat"))
def test_private_torch_lives_in_compat(module):
    assert private_torch(TREES[module]) == []


@pytest.mark.parametrize("example", sorted(ROOT.glob("examples/**/*.py")), ids=lambda path: path.name)
def test_examples_use_public_names_only(example):
    tree = ast.parse(example.read_text())
    assert private_torch(tree) == []
    assert [name for name in imports(tree) if re.match(r"funpipe\b.*\._", name)] == []


@pytest.mark.parametrize("module", sorted(TABLES))
def test_an_init_is_a_table_of_contents(module):
    if module == "funpipe.interop":
        return  # it holds the guard of its own name
    allowed = (ast.Expr, ast.Import, ast.ImportFrom, ast.Assign)
    assert [ast.unparse(node) for node in TREES[module].body if not isinstance(node, allowed)] == []


def test_interop_has_one_name(monkeypatch):
    assert (ROOT / "funpipe" / "interop").resolve() == ROOT / "interop"
    assert importlib.import_module("funpipe.interop").__name__ == "funpipe.interop"
    monkeypatch.syspath_prepend(str(ROOT))
    with pytest.raises(ImportError, match=r"imported as 'interop'.*import it as funpipe\.interop instead"):
        importlib.import_module("interop")


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import torch._dynamo", ["torch._dynamo"]),
        ("from torch.fx import _pytree", ["torch.fx._pytree"]),
        ("import torch.distributed as dist\ndist._x.y()", ["torch.distributed._x", "torch.distributed._x.y"]),
        ("import importlib\nimportlib.import_module('torch._inductor.config')", ["torch._inductor.config"]),
        ("from functorch import vmap", ["functorch.vmap"]),
        ("import torch\ntorch.ops._c10d_functional.wait_tensor, torch.__version__, torch.fx.Node", []),
    ],
)
def test_the_search_for_private_torch_finds_it(source, found):
    assert private_torch(ast.parse(source)) == found


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("funpipe.stages.cut", "from funpipe.programs import lower", ["funpipe.programs.lower"]),
        ("funpipe.stages.cut", "from funpipe.optim import sgd", ["funpipe.optim.sgd"]),
        ("funpipe.stages.cut", "import funpipe", ["funpipe"]),
        ("funpipe.stages.cut", "from funpipe.tracing import Traced\nfrom funpipe.stages.cost import flops", []),
        (
            "funpipe.interop.spmd",
            "import funpipe as fp\nfrom funpipe._api import train_step",
            ["funpipe._api.train_step"],
        ),
    ],
)
def test_the_check_of_direction_finds_what_goes_against_it(module, source, found):
    assert wrong_imports(module, ast.parse(source)) == found

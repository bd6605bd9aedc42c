"""Every public name is documented: in its docstring, and on the page of its folder."""

import ast
import importlib
import inspect
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
FILES = {
    ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): file
    for pattern in ("funpipe/**/*.py", "funpipe/interop/**/*.py")
    for file in ROOT.glob(pattern)
}
TABLES = sorted(name for name, file in FILES.items() if file.name == "__init__.py")


def exported(module: str) -> list[str]:
    """The public names of a table of contents: its `from x import Y as Y` lines."""
    froms = (node for node in ast.parse(FILES[module].read_text()).body if isinstance(node, ast.ImportFrom))
    return [alias.name for node in froms for alias in node.names if alias.asname == alias.name]


PUBLIC = [(module, name) for module in TABLES for name in exported(module)]


def undocumented(name: str, value: object) -> list[str]:
    """What is missing from the documentation of a public class or function; constants and modules are let through."""
    if inspect.isclass(value):
        members = {f"{name}.{m}": v for m, v in vars(value).items() if not m.startswith("_") and _has_doc(v)}
        return [n for n, v in {name: value, **members}.items() if not _own_doc(n, v, value)]
    if not isinstance(value, types.FunctionType):
        return []
    text = inspect.getdoc(value) or ""
    return [f"{name}: {section}" for section in _sections(inspect.signature(value)) if section not in text]


def _sections(signature: inspect.Signature) -> list[str]:
    """What the docstring of a function with this signature has to hold; the last is an example that runs."""
    args = ["Args:"] if signature.parameters else []
    returns = [] if signature.return_annotation in (None, "None") else ["Returns:"]
    return [*args, *returns, ">>>"]


def _has_doc(value: object) -> bool:
    return isinstance(value, (types.FunctionType, property, classmethod, staticmethod))


def _own_doc(name: str, value: object, owner: type) -> bool:
    """Whether somebody wrote a docstring: an inherited one counts, the signature that dataclass puts there does not."""
    text = value.__doc__ or inspect.getdoc(getattr(owner, name.split(".")[-1], value)) or ""
    return bool(text) and not text.startswith(f"{name}(")


@pytest.mark.parametrize("module", sorted(FILES))
def test_every_module_says_what_it_is(module):
    assert ast.get_docstring(ast.parse(FILES[module].read_text())), f"{module} has no docstring"


@pytest.mark.parametrize(("module", "name"), PUBLIC, ids=[f"{module}.{name}" for module, name in PUBLIC])
def test_every_public_name_is_documented(module, name):
    assert undocumented(name, getattr(importlib.import_module(module), name)) == []


@pytest.mark.parametrize("module", sorted({module for module, _ in PUBLIC} - {"funpipe", "funpipe._api"}))
def test_every_table_has_its_page(module):
    name = module.removeprefix("funpipe.")
    page = ROOT / "docs" / "api" / f"{name}.md"
    assert page.exists(), f"write {page.relative_to(ROOT)} and name it in the nav of mkdocs.yml"
    assert f"::: {module}\n" in page.read_text()
    assert f"api/{name}.md" in (ROOT / "mkdocs.yml").read_text()

"""Expands `::: funpipe.schedules` on a page to the names that this folder's table of contents lists, in its order.

So a page cannot miss a public name, and a name is shown where it is defined.
"""

import ast
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Called by mkdocs with the text of each page."""
    return re.sub(r"^::: (funpipe(?:\.\w+)?)$", lambda match: _expand(match[1]), markdown, flags=re.MULTILINE)


def _expand(package: str) -> str:
    """The directive of a package as one directive, or one link, for each of its public names; others as they are."""
    init = ROOT.joinpath(*package.split("."), "__init__.py")
    if not init.exists():
        return f"::: {package}"
    froms = [node for node in ast.parse(init.read_text()).body if isinstance(node, ast.ImportFrom)]
    names = [(node.module or "", alias.name) for node in froms for alias in node.names if alias.asname == alias.name]
    return "\n\n".join(_entry(package, module, name) for module, name in names)


def _entry(package: str, module: str, name: str) -> str:
    """How one name is shown: here, or by reference to the page that shows it."""
    folder = (f"{module}.{name}".split(".") + [""])[1]
    if folder == "_errors":
        return f"- `{name}`: see [errors](../errors.md)"
    if f"funpipe.{folder}" == package or not (ROOT / "docs" / "api" / f"{folder}.md").exists():
        return f"::: {module}.{name}"
    return f"- `{name}`: see [{folder}]({folder}.md)"

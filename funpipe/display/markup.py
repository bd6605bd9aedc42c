"""Elements of SVG as text."""

import html
import re

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def element(name: str, *inside: str, **attributes: object) -> str:
    """An element with what is in it; `stroke_width=1` is the attribute `stroke-width`.

    Example:
        >>> element("text", escaped("a < b"), x=1.50, text_anchor="end")
        '<text x="1.5" text-anchor="end">a &lt; b</text>'
    """
    written = "".join(f' {key.replace("_", "-")}="{_value(value)}"' for key, value in attributes.items())
    return f"<{name}{written}>{''.join(inside)}</{name}>" if inside else f"<{name}{written}/>"


def escaped(text: str) -> str:
    """A text for an element or an attribute; characters that XML cannot have are left out."""
    return html.escape(_NOT_IN_XML.sub("", text))


def _value(value: object) -> str:
    return f"{round(value, 2):g}" if isinstance(value, float) and abs(value) < 1e5 else escaped(str(value))

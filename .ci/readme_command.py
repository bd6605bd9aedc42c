"""Prints the command under a heading of the README, so that what is documented is what is run.

python .ci/readme_command.py Test
"""

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def command(text: str, heading: str, language: str = "bash") -> str:
    """The one fenced block of a language under `## heading`."""
    section = re.search(rf"^## {re.escape(heading)}\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE)
    if section is None:
        raise SystemExit(f"the README has no heading '## {heading}'")
    blocks = re.findall(rf"^```{language}\n(.*?)^```$", section[1], re.DOTALL | re.MULTILINE)
    if len(blocks) != 1 or not blocks[0].strip():
        raise SystemExit(
            f"'## {heading}' in the README has {len(blocks)} blocks of {language}; write exactly one command"
        )
    return blocks[0]


if __name__ == "__main__":
    sys.stdout.write(command(README.read_text(), sys.argv[1]))

"""Checks a built wheel: every file of the source tree is in it, at its installed place, once.

python .ci/check_wheel.py dist/funpipe-*.whl
"""

import sys
import zipfile
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def expected() -> set[str]:
    """The files a wheel has to hold, by their names in it."""
    package = {path.relative_to(ROOT) for path in (ROOT / "funpipe").rglob("*.py")}
    interop = {"funpipe" / path.relative_to(ROOT) for path in (ROOT / "interop").rglob("*.py")}
    return {path.as_posix() for path in package | interop} | {"funpipe/py.typed"}


def main(wheel: str) -> None:
    """Exits with the difference, if there is one."""
    found = Counter(name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name)
    if found != Counter(expected()):
        missing, surplus = sorted(expected() - set(found)), sorted((found - Counter(expected())).elements())
        raise SystemExit(
            f"{wheel}: missing {missing}, surplus or twice {surplus}; correct [tool.setuptools] in pyproject.toml"
        )
    print(f"{wheel}: {len(found)} files, each once")


if __name__ == "__main__":
    main(sys.argv[1])

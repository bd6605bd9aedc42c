"""The page on pictures is run: its texts are what its blocks print, its images what they draw."""

import contextlib
import io
import re
from pathlib import Path

from funpipe.runtime.profiling import Profile
from tests.display.pictures import PROFILE

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = (DOCS / "pictures.md").read_text()
BLOCK = re.compile(r"^```(python|text)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
AGAIN = "run `python -m tests.test_pictures` to draw it again"


def ran():
    """The names that the blocks leave, and for each block what it prints and the text below it."""
    names, printed = {}, []
    for kind, content in BLOCK.findall(PAGE):
        if kind == "text":
            printed[-1][1] = content
        else:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(content, "pictures.md", "exec"), names)
            printed.append([out.getvalue(), None])
    return names, printed


def images(names):
    return {"dualpipev.svg": names["drawn"], "memory.svg": names["with_memory"]}


def test_the_blocks_print_what_is_below_them():
    texts = [(printed.strip(), below.strip()) for printed, below in ran()[1] if below is not None]
    assert len(texts) == 2
    assert all(printed == below for printed, below in texts)


def test_the_images_are_what_is_drawn():
    for name, drawn in images(ran()[0]).items():
        assert (DOCS / "pictures" / name).read_text() == drawn, AGAIN


def test_a_profile_beside_a_simulation():
    names, _ = ran()
    assert isinstance(PROFILE, Profile)
    simulation = names["fp"].schedules.simulate(names["fp"].schedules.GPipe().table(2, 1), F=2.0, B=3.0)
    assert names["beside"](simulation, PROFILE).rows[:2] == ("rank 0 predicted", "rank 0 measured")


if __name__ == "__main__":
    for name, drawn in images(ran()[0]).items():
        (DOCS / "pictures" / name).write_text(drawn)

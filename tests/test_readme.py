"""The README is run: its example as it stands, its commands by the checks that run before a merge."""

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


def _readme_command() -> ModuleType:
    """The script that reads a command off the README."""
    spec = importlib.util.spec_from_file_location("readme_command", ROOT / ".ci" / "readme_command.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


command = _readme_command().command


def test_the_example_runs_and_learns():
    example, names = command(README, "Use", "python"), {}
    above = "\n" * README[: README.index(example)].count("\n")  # so that a traceback shows the README's lines
    exec(compile(above + example, ROOT / "README.md", "exec"), names)
    assert names["losses"][-1] < 0.5 * names["losses"][0]


@pytest.mark.parametrize("heading", ["Train", "Test"])
def test_a_command_installs_a_named_torch_before_anything_that_needs_it(heading):
    installs = re.findall(r"pip install (.*?)(?: \\)?$", command(README, heading), re.MULTILINE)
    assert re.fullmatch(r"torch==\d+\.\d+\.\d+", installs[0])
    assert len(installs) == 2


def test_both_commands_name_the_same_torch():
    assert len(set(re.findall(r"torch==\S+", README))) == 1


def test_the_commands_run_what_exists():
    assert "examples/train_gpt.py" in command(README, "Train")
    assert (ROOT / "examples" / "train_gpt.py").exists()
    assert "-m pytest" in command(README, "Test")


def test_the_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\((.*?)\)", README) if not link.startswith("http")]
    assert links and [link for link in links if not (ROOT / link).exists()] == []


def test_a_missing_heading_is_an_error():
    with pytest.raises(SystemExit, match="the README has no heading '## Nothing'"):
        command(README, "Nothing")


def test_two_commands_under_one_heading_are_an_error():
    with pytest.raises(SystemExit, match="has 2 blocks of bash; write exactly one command"):
        command("## Test\n```bash\na\n```\n```bash\nb\n```\n", "Test")

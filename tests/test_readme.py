"""What the README and the documents show must run, and what they name must exist."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def test_the_example_of_the_kernels_runs():
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict = {}
    exec(code, names)
    assert names["colors"].shape == (64, 3)
    assert names["table"].grad.abs().sum() > 0 and names["cond"].grad.abs().sum() > 0


def commands_shown() -> dict[str, set[str]]:
    """Commands that any document shows, with every option that it shows for each."""
    shown: dict[str, set[str]] = {}
    for path in DOCUMENTS:
        for command, rest in re.findall(r"(?:^|`)nerfad ([a-z-]+)([^`\n]*)", path.read_text(), re.MULTILINE):
            options = re.findall(r"(?<!\S)--[a-z][a-z0-9.-]*", rest.split("#")[0])
            shown.setdefault(command, set()).update(options)
    return shown


@pytest.mark.parametrize(("command", "options"), sorted(commands_shown().items()))
def test_every_command_shown_exists_with_every_option_shown(command, options):
    call = [sys.executable, "-m", "nerfad", command, "--help"]
    told = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    known = set(re.findall(r"--[a-z][a-z0-9.-]*", told))
    for option in options:  # one that ends in a point, as in `--identity.*`, stands for its group
        assert option in known or (option.endswith(".") and any(k.startswith(option) for k in known)), option


def test_the_commands_of_the_readme_are_among_them():
    known = {"preprocess", "doctor", "train", "train-base", "pretrain-attention", "pretrain-fusion", "render"}
    assert known | {"evaluate", "export", "explain", "reproduce", "sample"} <= commands_shown().keys()


def anchor(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_link_leads_somewhere(path):
    for target, _, part in re.findall(r"\]\(([^)#:]*)(#([^)]*))?\)", path.read_text()):
        file = path.parent / target if target else path
        assert file.is_file(), target
        if part:
            headings = re.findall(r"^#+ (.*)$", file.read_text(), re.MULTILINE)
            assert part in map(anchor, headings), f"{target}#{part}"


def resolved(name: str) -> bool:
    parts = name.split(".")
    for n in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:n]))
        except ModuleNotFoundError:
            continue
        for part in parts[n:]:
            found = getattr(found, part, None)
        return found is not None
    return False


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_every_name_of_the_package_exists(path):
    names = set(re.findall(r"`(nerfad(?:\.\w+)+)", path.read_text()))
    assert [name for name in sorted(names) if not resolved(name)] == []

"""The README tells the truth: its commands parse, its tree is the folder."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from har_keras import cli
from har_keras.__main__ import VERBS, verb_module
from har_keras.config import Config
from har_keras.run import Run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)


def commands(blocks):
    """Returns every `python -m har_keras.verb ...` of some code blocks."""
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    for line in lines:
        for part in re.split(r"&&|;|\|", line.split("#")[0]):
            words = shlex.split(part)
            if words[:2] == ["python", "-m"] and "har_keras" in words[2]:
                yield words[2:]


def options_of(verb, flags):
    """Returns the dataclass of a verb's flags, and the flags left for it."""
    module = verb_module(verb)
    if verb == "benchmark":
        verb, *flags = flags
    return getattr(module, f"{verb.capitalize()}Options"), flags


def make_runs():
    """Makes the runs that commands name, in the folder they are run in."""
    Run(Path("runs/first")).create(Config())  # for --resume
    pretrained = Config().replace(recipe="pretrain")
    Run(Path("runs/pretrained")).create(pretrained)  # for --weights


@pytest.mark.parametrize("words", list(commands(BLOCKS)), ids=" ".join)
def test_a_command_has_flags_that_exist(words, tmp_path, monkeypatch):
    module, *flags = words
    if module == "har_keras":
        assert not flags or flags[0] in VERBS
        return
    verb = module.removeprefix("har_keras.")
    assert verb in VERBS
    monkeypatch.chdir(tmp_path)
    make_runs()
    options, flags = options_of(verb, flags)
    cli.parse(options, flags, verb=verb)


def test_the_first_two_commands_are_the_main_job_and_the_tests():
    assert "pip install ." in BLOCKS[0]
    assert "har_keras.train --sample --recipe quick" in BLOCKS[0]
    assert "pip install" in BLOCKS[1]
    assert "pytest" in BLOCKS[1]


def test_ci_runs_the_readmes_test_command():
    install, test = re.search(
        r"(pip install \S+ \S+) && (pytest)", BLOCKS[1]
    ).groups()
    script = (ROOT / ".ci" / "run").read_text()
    assert install.removeprefix("pip install ") in script
    assert f"\n{test}\n" in script


def test_the_tree_is_the_folder():
    tree = README[README.index("```text\nhar_keras/") :]
    tree = tree[: tree.index("```", 8)]
    shown = re.findall(r"\b(\w+)/", tree.replace("har_keras/", ""))
    package = ROOT / "har_keras"
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    assert sorted(shown) == sorted(folders)
    names = {path.name for path in package.rglob("*.py")}
    assert set(re.findall(r"\b\w+\.py\b", tree)) <= names


def test_paths_and_links_lead_somewhere():
    links = re.findall(r"\]\(([^)#:]+)[^):]*\)", README)
    for link in links + re.findall(r'src="([^"]+)"', README):
        assert (ROOT / link).exists(), link
    for path in re.findall(r"`(\w+/(?:\w+\.py)?)`", README):
        assert any(
            (root / path).exists() for root in (ROOT, ROOT / "har_keras")
        ) or path in ("saved_model/",), path


def test_python_parses_and_uses_public_names():
    import har_keras

    (block,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    for node in ast.walk(ast.parse(block)):
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and node.value.id == "har_keras"
        ):
            assert node.attr in har_keras.__all__


@pytest.mark.parametrize(
    "name",
    [
        "patch_size",
        "hidden_dim",
        "num_layers",
        "num_heads",
        "mlp_dim",
        "dropout_rate",
        "batch_size",
        "epochs",
        "learning_rate",
    ],
)
def test_the_table_of_hyperparameters_is_the_config(name):
    row = re.search(rf"\|[^|]*\|\s*`{name}`[^|]*\|\s*([\d.]+)", README)
    assert float(row.group(1)) == Config().flat()[name]

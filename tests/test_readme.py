"""The README tells the truth; what holds on all pages is in `test_docs.py`."""

import ast
import re

import pytest
from support.pages import ROOT, TEXTS

from har_keras.__main__ import verb_module
from har_keras.config import Config

README = TEXTS["README.md"]
BLOCKS = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)


def options_of(verb, flags):
    """Returns the dataclass of a verb's flags, and the flags left for it."""
    module = verb_module(verb)
    if verb == "benchmark":
        verb, *flags = flags
    return getattr(module, f"{verb.capitalize()}Options"), flags


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


def test_it_is_short():
    assert len(README.splitlines()) < 200


def test_the_tree_is_the_folder():
    tree = README[README.index("```text\nhar_keras/") :]
    tree = tree[: tree.index("```", 8)]
    shown = re.findall(r"\b(\w+)/", tree.replace("har_keras/", ""))
    package = ROOT / "har_keras"
    folders = {path.parent.name for path in package.glob("*/__init__.py")}
    assert sorted(shown) == sorted(folders)
    names = {path.name for path in package.rglob("*.py")}
    assert set(re.findall(r"\b\w+\.py\b", tree)) <= names


def test_what_a_run_has_is_what_a_run_has(tmp_path):
    from har_keras.run import Run

    text = README[README.index("A run is a folder") :]
    shown = re.findall(r"`([\w.]+/?)`", text[: text.index("An interrupted")])
    run = Run(tmp_path)
    known = {p.name for p in vars(run).values() if hasattr(p, "name")}
    source = (ROOT / "har_keras" / "run.py").read_text()
    for name in shown:
        assert name.rstrip("/") in known or f'"{name}"' in source, name


def test_python_uses_public_names():
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
        "tubelet_frames",
        "hidden_dim",
        "num_layers",
        "num_heads",
        "mlp_dim",
        "dropout_rate",
        "attention_dropout_rate",
        "batch_size",
        "epochs",
        "learning_rate",
        "weight_decay",
    ],
)
def test_the_table_of_hyperparameters_is_the_config(name):
    value = re.search(rf"\| `{name}`[^|]*\|\s*([\d.]+) \|", README)[1]
    assert float(value) == Config().flat()[name]

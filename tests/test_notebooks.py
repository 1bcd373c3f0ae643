"""The notebooks are small, say how they begin, and run from top to bottom."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest
from test_readme import options_of

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]

# What the cell of parameters is followed by: as little as shows that all runs.
SMALL = """
num_videos = 6
epochs = 2
"""


def cells_of(path):
    return json.loads(path.read_text("utf-8"))["cells"]


def code_of(path):
    return [
        "".join(cell["source"])
        for cell in cells_of(path)
        if cell["cell_type"] == "code"
    ]


def test_all_five_are_there():
    numbers = [name.split("_")[0] for name in NAMES]
    assert numbers == [f"{n:02d}" for n in range(1, len(NAMES) + 1)]


def without_commands(source):
    """Returns the Python of a cell, with `pass` for `%` and `!` lines."""
    return re.sub(
        r"^( *)[%!](?:.*\\\n)*.*$", r"\1pass", source, flags=re.MULTILINE
    )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_a_notebook_is_small_and_opens_in_colab(path):
    assert path.stat().st_size < 500_000
    first = "".join(cells_of(path)[0]["source"])
    repository = "colab.research.google.com/github/har-keras/har_keras"
    assert f"{repository}/blob/main/notebooks/{path.name}" in first


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_the_backend_is_chosen_before_keras_and_nothing_is_replaced(path):
    code = code_of(path)
    assert 'os.environ["KERAS_BACKEND"]' in code[0]
    assert "import keras" not in code[0]
    for line in re.findall(r"pip install (.*)", "\n".join(code)):
        assert "har_keras" in line
        assert "==" not in line
        assert "tensorflow" not in line


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_it_defines_no_model_and_no_loop_of_training(path):
    for source in code_of(path):
        for node in ast.walk(ast.parse(without_commands(source))):
            assert not isinstance(node, ast.ClassDef | ast.FunctionDef)
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("fit", "train_on_batch", "compile")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_it_uses_only_public_names(path):
    import har_keras

    for source in code_of(path):
        for node in ast.walk(ast.parse(without_commands(source))):
            if isinstance(node, ast.ImportFrom):
                assert not (node.module or "").startswith("har_keras")
            if isinstance(node, ast.Import):
                for alias in node.names:
                    assert not alias.name.startswith("har_keras.")
            if (
                isinstance(node, ast.Attribute)
                and isinstance(node.value, ast.Name)
                and node.value.id == "har_keras"
            ):
                assert node.attr in har_keras.__all__


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_its_commands_have_flags_that_exist(path, tmp_path, monkeypatch):
    from har_keras import cli

    monkeypatch.chdir(tmp_path)
    text = "\n".join(code_of(path)).replace("\\\n", " ")
    for verb, line in re.findall(
        r"^ *!.* -m har_keras\.(\w+) (.*)", text, re.M
    ):
        flags = shlex.split(re.sub(r"\{\w+\}", "1", line))
        options, flags = options_of(verb, flags)
        cli.parse(options, flags, verb=verb)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_outputs_are_kept_and_tell_of_no_machine(path):
    outputs = [
        output for cell in cells_of(path) for output in cell.get("outputs", [])
    ]
    assert outputs
    for output in outputs:
        assert output["output_type"] != "error"
        text = "".join(output.get("text", ""))
        for noise in ("Traceback", "absl::", "cuda", "/root/", "/home/"):
            assert noise not in text


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)
def test_it_runs_from_top_to_bottom(path, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    notebook = nbformat.read(path, 4)
    (place,) = (
        place
        for place, cell in enumerate(notebook.cells)
        if "parameters" in cell.metadata.get("tags", ())
    )
    notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(SMALL))
    nbclient.NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    ).execute()

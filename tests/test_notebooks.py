"""The notebooks are small, say how they begin, and run from top to bottom."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest
from support.notebooks import install_wheel, run_notebook
from test_docs import make_runs
from test_readme import options_of

import har_keras
from har_keras import notebook

NOTEBOOKS = sorted((Path(__file__).parents[1] / "notebooks").glob("*.ipynb"))
NAMES = [path.stem for path in NOTEBOOKS]
# A path from the top of a disk; others go on from a name, "~" or "…".
ABSOLUTE = r"(?<![\w.~…/)\]}-])/[a-z]\w*/\w*"
PUBLIC = {*har_keras.__all__, "notebook"}

# What the form is followed by: as little as shows that all runs.
SMALL = """
num_videos = 6
num_unlabeled = 6
num_unseen = 4
epochs = 2
seconds = 4
"""

each = pytest.mark.parametrize("path", NOTEBOOKS, ids=NAMES)


def cells_of(path):
    return json.loads(path.read_text("utf-8"))["cells"]


def code_of(path):
    return [
        "".join(cell["source"])
        for cell in cells_of(path)
        if cell["cell_type"] == "code"
    ]


def without_commands(source):
    """Returns the Python of a cell, with `pass` for `%` and `!` lines."""
    return re.sub(
        r"^( *)[%!](?:.*\\\n)*.*$", r"\1pass", source, flags=re.MULTILINE
    )


def nodes_of(path):
    for source in code_of(path):
        yield from ast.walk(ast.parse(without_commands(source)))


def outputs_of(path):
    return [x for cell in cells_of(path) for x in cell.get("outputs", ())]


def test_all_are_there():
    numbers = [name.split("_")[0] for name in NAMES]
    assert numbers == [f"{n:02d}" for n in range(1, 9)]


@each
def test_a_notebook_is_small_and_opens_in_colab(path):
    assert path.stat().st_size < 150_000
    assert len(cells_of(path)) < 12
    first = "".join(cells_of(path)[0]["source"])
    repository = "colab.research.google.com/github/har-keras/har_keras"
    assert f"{repository}/blob/main/notebooks/{path.name}" in first


@each
def test_it_begins_with_a_form(path):
    form = cells_of(path)[1]
    assert form["metadata"]["tags"] == ["parameters"]
    lines = "".join(form["source"]).splitlines()
    assert re.fullmatch(r'# @title .+ \{ "display-mode": "form" \}', lines[0])
    for line in lines[1:]:
        assert re.match(r"# @markdown .|\w+ = .+  # @param [\[{]", line), line
    values = {line.split(" = ")[0] for line in lines if " = " in line}
    assert values >= {"videos", "num_videos", "save_to_drive"}
    code = "\n".join(code_of(path)[1:])
    assert all(re.search(rf"\b{name}\b", code) for name in values)


@each
def test_it_installs_what_is_missing_and_replaces_nothing(path):
    start = code_of(path)[1]
    assert "save_to_drive=save_to_drive" in start
    lines = re.findall(r"pip install (.*)", "\n".join(code_of(path)))
    assert len(lines) == 1
    assert "har_keras" in lines[0]
    assert "==" not in lines[0]
    assert "tensorflow" not in lines[0]


@each
def test_it_defines_no_model_and_no_loop_of_training(path):
    for node in nodes_of(path):
        assert not isinstance(node, ast.ClassDef | ast.FunctionDef)
        if isinstance(node, ast.Attribute):
            assert node.attr not in ("fit", "train_on_batch", "compile")


@each
def test_a_training_goes_on_after_a_disconnect(path):
    calls = [
        {word.arg: ast.unparse(word.value) for word in node.keywords}
        for node in nodes_of(path)
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "har_keras.VideoClassifier.train"
    ]
    assert calls
    assert all(call["resume"] == "True" for call in calls)


@each
def test_it_uses_only_public_names(path):
    for node in nodes_of(path):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert not node.module.startswith("har_keras.")
            if node.module == "har_keras":
                assert {alias.name for alias in node.names} <= PUBLIC
        if isinstance(node, ast.Import):
            for alias in node.names:
                assert not alias.name.startswith("har_keras.")
        if isinstance(node, ast.Attribute):
            assert not node.attr.startswith("_")
            owner = ast.unparse(node.value)
            assert owner != "har_keras" or node.attr in har_keras.__all__
            assert owner != "notebook" or node.attr in notebook.__all__


@each
def test_its_commands_have_flags_that_exist(path, tmp_path, monkeypatch):
    from har_keras import cli

    monkeypatch.chdir(tmp_path)
    make_runs()
    text = "\n".join(code_of(path)).replace("\\\n", " ")
    for verb, line in re.findall(
        r"^ *%run -m har_keras\.(\w+) (.*)", text, re.M
    ):
        line = re.sub(r"--resume \S+", "--resume runs/pretrained", line)
        flags = shlex.split(re.sub(r"\{[^}]+\}", "1", line))
        options, flags = options_of(verb, flags)
        cli.parse(options, flags, verb=verb)


@each
def test_outputs_are_kept_and_tell_of_no_machine_and_no_failure(path):
    outputs = outputs_of(path)
    assert outputs
    for output in outputs:
        assert output["output_type"] != "error"
        assert output.get("name") != "stderr"
        data = output.get("data", {})
        text = "".join(output.get("text", "")) + "".join(
            "".join(part) for kind, part in data.items() if "text/" in kind
        )
        text = re.sub(r"base64,[\w+/=]*", "", text)
        for noise in (
            "Traceback", "Error", "absl::", "cuda", "can't", "failed",
            "/root/", "/home/", "/tmp/", "/content/",
        ):  # fmt: skip
            assert noise not in text, noise
        assert re.findall(ABSOLUTE, text) == []


@pytest.fixture(scope="module")
def installed(make_once):
    """The package, as the wheel of this checkout installs it."""
    pytest.importorskip("hatchling")
    return make_once("wheel", install_wheel) / "installed"


@pytest.mark.slow
@each
def test_it_runs_from_top_to_bottom(path, installed, tmp_path):
    nbformat = pytest.importorskip("nbformat")

    def run():
        found = nbformat.read(path, 4)
        found.cells.insert(2, nbformat.v4.new_code_cell(SMALL))
        where = nbformat.v4.new_code_cell("print(har_keras.__file__)")
        found.cells.append(where)
        run_notebook(found, tmp_path, installed)
        (output,) = where.outputs
        assert Path(output.text).is_relative_to(installed)
        said = [x for cell in found.cells for x in cell.get("outputs", ())]
        assert [x.text for x in said if x.get("name") == "stderr"] == []
        return json.dumps(found)

    run()
    if path == NOTEBOOKS[0]:  # as after a disconnect
        assert "is finished and is loaded" in run()

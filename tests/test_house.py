"""The layout: what may import what, and that it is what the README shows."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from har_keras import __main__

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "har_keras"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each room may import, besides the ground and itself.
ROOMS = {
    "manifest": set(),
    "model": set(),
    "sample": set(),
    "video": {"manifest"},
    "store": {"manifest", "video"},
    "clips": {"manifest", "store"},
    "training": {"manifest", "store", "clips", "model"},
    "serving": set(),
    "inference": {"serving", "model", "clips", "store", "video", "manifest"},
    "evaluation": {"inference", "store", "video", "manifest"},
    "report": {
        "evaluation", "inference", "model", "clips", "store", "video",
        "manifest",
    },
    "doctor": {"store", "video"},
    "app": {"inference", "report", "video"},
}  # fmt: skip
# What every room may import: options, names, files; no stage of the data.
GROUND = {
    "_version", "beam", "cli", "config", "environment", "errors", "files",
    "progress", "recipes", "run", "toml",
}  # fmt: skip
# May import anything; nothing but the verbs imports it.
BENCHMARK = "benchmark"
VERBS = set(__main__.VERBS)
VERB_FILES = {
    verb: PACKAGE / verb / "__main__.py"
    if (PACKAGE / verb).is_dir()
    else PACKAGE / f"{verb}.py"
    for verb in VERBS - {"completion"}
}


def imported_modules(file):
    """Returns what a file imports: ("har_keras.store.store", at the top?)."""
    tree = ast.parse(file.read_text("utf-8"))
    top = set(tree.body)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node in top
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, node in top


def rooms_imported(file):
    for name, _ in imported_modules(file):
        if name.startswith("har_keras."):
            yield name.split(".")[1]


@pytest.mark.parametrize("room", ROOMS)
def test_imports_point_down(room):
    allowed = ROOMS[room] | GROUND | {room}
    for file in (PACKAGE / room).glob("*.py"):
        wrong = set(rooms_imported(file)) - allowed
        assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"


def test_the_ground_floor_imports_nothing_above():
    for name in GROUND:
        wrong = set(rooms_imported(PACKAGE / f"{name}.py")) - GROUND
        assert not wrong, f"{name}.py imports {wrong}"


def test_video_knows_no_keras():
    for file in (PACKAGE / "video").glob("*.py"):
        names = {name.split(".")[0] for name, _ in imported_modules(file)}
        assert "keras" not in names, file.name


def test_model_knows_no_files():
    for file in (PACKAGE / "model").glob("*.py"):
        if file.stem == "weights":
            continue
        assert "har_keras.files" not in dict(imported_modules(file)), file.name


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_verb_imports_no_backend_at_its_top(verb):
    for name, at_top in imported_modules(PACKAGE / f"{verb}.py"):
        heavy = name.split(".")[0] in ("keras", "tensorflow", "jax", "torch")
        assert not (heavy and at_top), f"{verb}.py imports {name} at its top"


def test_the_package_imports_nothing_heavy():
    code = (
        "import sys, har_keras; print(*{m.split('.')[0] for m in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    heavy = {"keras", "tensorflow", "numpy", "cv2", "wandb", "tyro"}
    assert not heavy & set(done.stdout.split())


@pytest.mark.parametrize("name", ["opening", "printing", "results"])
def test_what_a_verb_reads_before_its_backend_starts_imports_none(name):
    """Else TensorFlow's words at its start are seen."""
    code = f"import sys, har_keras.report.{name}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert not {"keras", "tensorflow"} & set(done.stdout.split())


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_help_of_every_verb(verb):
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", f"har_keras.{verb}", "-h"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert f"har_keras.{verb}" in done.stdout
    # `--help` answers at once because no backend is imported for it.
    for package in ("keras", "tensorflow", "jax", "torch"):
        assert f"| {package}\n" not in done.stderr


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_a_file_stays_readable(file):
    assert len(file.read_text("utf-8").splitlines()) <= 400

"""The layout: which room may import which, and that nothing points up."""

import ast
import graphlib
import subprocess
import sys
from pathlib import Path

import pytest

from har_keras import __main__

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "har_keras"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each room may import besides the ground and itself, bottom to top: the
# data's way. Clips take no more of `video` than the type of their frames.
ROOMS = {
    "video": set(),
    "manifest": {"video"},
    "model": set(),
    "backbones": {"model"},
    "sample": set(),
    "store": {"manifest", "video"},
    "clips": {"manifest", "video", "store"},
    "features": {"manifest", "store", "clips", "backbones"},
    "training": {
        "manifest", "store", "clips", "model", "backbones", "features",
    },
    "serving": set(),
    "inference": {
        "serving", "features", "backbones", "model", "clips", "store", "video",
        "manifest",
    },
    "suggestions": {
        "inference", "features", "backbones", "store", "manifest",
    },
    "evaluation": {
        "inference", "serving", "features", "clips", "store", "video",
        "manifest",
    },
    "report": {
        "evaluation", "inference", "serving", "model", "clips", "store",
        "video", "manifest",
    },
    "compare": {"report", "evaluation", "training", "manifest"},
    "doctor": {"store", "video"},
    "notebook": {
        "doctor", "evaluation", "inference", "sample", "training", "video",
    },
    "web": set(),
    "app": {"inference", "report", "sample", "serving", "video", "web"},
    "serve": {"inference", "report", "serving", "video", "web"},
    "label": {"manifest", "store", "suggestions", "video", "web"},
}  # fmt: skip
# What every room may import: options, names, files; no stage of the data.
GROUND = {
    "_version", "beam", "cli", "compiled", "config", "damaged", "environment",
    "errors", "files", "hub", "hub_config", "hub_place", "hub_run",
    "interrupts", "phases", "processes", "progress", "ranges", "recipes", "run",
    "terminal", "toml",
}  # fmt: skip
# The command line is for verbs: a library file does not import it.
VERBS_ONLY = {"cli"}
# Imports anything; nothing imports it.
BENCHMARK = "benchmark"
VERBS = set(__main__.VERBS) - {"completion"}
MOST_FILES = 15
MOST_LINES = 450


def verb_file(verb):
    folder = PACKAGE / verb
    return (
        folder / "__main__.py" if folder.is_dir() else folder.with_suffix(".py")
    )


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
    allowed = (ROOMS[room] | GROUND | {room}) - VERBS_ONLY
    for file in (PACKAGE / room).rglob("*.py"):
        own = VERBS_ONLY if file.name == "__main__.py" else set()
        wrong = set(rooms_imported(file)) - allowed - own
        assert not wrong, f"{file.relative_to(ROOT)} imports {wrong}"


def test_every_room_is_in_the_table_and_below_those_that_import_it():
    folders = {path.parent.name for path in PACKAGE.glob("*/__init__.py")}
    assert folders == {*ROOMS, BENCHMARK}
    order = list(ROOMS)
    for room, below in ROOMS.items():
        assert all(order.index(other) < order.index(room) for other in below)


def test_the_ground_imports_nothing_above():
    for name in GROUND:
        wrong = set(rooms_imported(PACKAGE / f"{name}.py")) - GROUND
        assert not wrong, f"{name}.py imports {wrong}"


def test_nothing_imports_the_benchmark():
    for file in FILES:
        if BENCHMARK not in file.relative_to(PACKAGE).parts:
            assert BENCHMARK not in rooms_imported(file), file


def test_no_file_imports_itself_by_way_of_others():
    names = {
        ".".join(file.relative_to(ROOT).with_suffix("").parts): file
        for file in FILES
        if file.name != "__init__.py"
    }
    graph = {
        name: {module for module, _ in imported_modules(file)} & set(names)
        for name, file in names.items()
    }
    graphlib.TopologicalSorter(graph).prepare()  # raises for a circle


def test_video_and_clips_know_no_keras():
    for file in (*PACKAGE.glob("video/*.py"), *PACKAGE.glob("clips/*.py")):
        names = {name.split(".")[0] for name, _ in imported_modules(file)}
        assert "keras" not in names, file.name


def test_model_knows_no_files():
    for file in (PACKAGE / "model").glob("*.py"):
        if file.stem == "weights":
            continue
        assert "har_keras.files" not in dict(imported_modules(file)), file.name


def test_a_folder_is_seen_at_a_glance_and_a_file_read_at_a_sitting():
    for folder in {file.parent for file in FILES} - {PACKAGE}:
        assert len(list(folder.glob("*.py"))) <= MOST_FILES + 1, folder.name
    for file in FILES:
        lines = file.read_text("utf-8").count("\n")
        assert lines <= MOST_LINES, f"{file.relative_to(ROOT)}: {lines} lines"


@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_verb_imports_no_backend_at_its_top(verb):
    for name, at_top in imported_modules(verb_file(verb)):
        heavy = name.split(".")[0] in ("keras", "tensorflow", "jax", "torch")
        assert not (heavy and at_top), f"{verb} imports {name} at its top"


@pytest.mark.parametrize("verb", sorted(VERBS - {"benchmark"}))
def test_the_command_is_the_function(verb):
    """`main` calls the public function of its verb, which a notebook has."""
    body = ast.parse(verb_file(verb).read_text("utf-8")).body
    (main,) = [node for node in body if getattr(node, "name", "") == "main"]
    called = {
        node.func.id
        for node in ast.walk(main)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert verb in called


def test_the_package_imports_nothing_heavy():
    code = (
        "import sys, har_keras; print(*{m.split('.')[0] for m in sys.modules})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True
    )
    heavy = {"keras", "tensorflow", "numpy", "cv2", "wandb", "tyro"}
    assert not heavy & set(done.stdout.split())


LIGHT = ("inference.load", "report.printing", "report.evaluation_files")


def test_what_a_verb_reads_before_its_backend_starts_imports_none():
    """Else TensorFlow's messages at its start are seen."""
    names = ", ".join(f"har_keras.{name}" for name in LIGHT)
    done = subprocess.run(
        [sys.executable, "-c", f"import sys, {names}; print(*sys.modules)"],
        capture_output=True,
        text=True,
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
    assert f"har-keras {verb}" in done.stdout
    # `--help` answers at once because no backend is imported for it.
    for package in ("keras", "tensorflow", "jax", "torch"):
        assert f"| {package}\n" not in done.stderr

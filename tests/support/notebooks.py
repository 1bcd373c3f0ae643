"""Runs notebooks as users do: from the installed package, in a new folder."""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def install_wheel(folder):
    """Builds the wheel of this checkout and installs it into a folder."""
    dist, installed = folder / "dist", folder / "installed"
    build = ("hatchling", "build", "-t", "wheel", "-d", dist)
    install = ("pip", "install", "--quiet", "--no-deps", "--no-index")
    install += ("--find-links", dist, "--target", installed, "har_keras")
    for command in (build, install):
        subprocess.run(
            [sys.executable, "-m", *map(str, command)],
            cwd=ROOT,
            check=True,
            capture_output=True,
        )
    return installed


def run_notebook(notebook, folder, installed, *, cell_seconds=1800):
    """Runs the cells of a notebook in a folder, and keeps their outputs.

    Args:
        notebook: NotebookNode. Its outputs are replaced.
        folder: Path. The working directory.
        installed: Path. The package, as `install_wheel` installs it.
        cell_seconds: float. Limit on the time of a cell.
    """
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    nbclient.NotebookClient(
        notebook,
        timeout=cell_seconds,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(folder)}},
    ).execute(env=os.environ | {"PYTHONPATH": str(installed)})
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = list(_joined(cell.outputs))


def _joined(outputs):
    """Yields outputs, those of a stream that follow each other as one."""
    for name, some in itertools.groupby(outputs, lambda x: x.get("name")):
        first, *rest = some
        if name is None:
            yield from (first, *rest)
            continue
        first.text = "".join(x.text for x in (first, *rest))
        yield first

"""A sample of the crash matrix; the whole of it is `tests/crash_matrix.py`."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

MATRIX = Path(__file__).parent / "crash_matrix.py"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
@pytest.mark.parametrize("task", ["train", "pretrain"])
def test_a_run_survives(backend, task):
    if not importlib.util.find_spec(backend):
        pytest.skip(f"needs the extra {backend}")
    done = subprocess.run(
        [sys.executable, str(MATRIX), "--kills", "3", "--task", task],
        env=os.environ | {"KERAS_BACKEND": backend},
        cwd=MATRIX.parents[1],
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BAD" not in done.stdout

"""A sample of the cases in `tests/programs/crash_matrix.py`."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

MATRIX = [sys.executable, "-m", "programs.crash_matrix"]
# Most of the time XLA compiles, for each start anew.
QUICK = "--xla_backend_optimization_level=0"


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
@pytest.mark.parametrize("task", ["train", "pretrain"])
def test_a_run_survives(backend, task):
    if not importlib.util.find_spec(backend):
        pytest.skip(f"needs the extra {backend}")
    done = subprocess.run(
        [*MATRIX, "--kills", "3", "--task", task],
        env=os.environ | {"KERAS_BACKEND": backend, "XLA_FLAGS": QUICK},
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BAD" not in done.stdout

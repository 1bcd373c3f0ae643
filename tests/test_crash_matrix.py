"""A sample of the cases in `tests/programs/crash_matrix.py`."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

MATRIX = [sys.executable, "-m", "programs.crash_matrix"]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
@pytest.mark.parametrize("task", ["train", "pretrain"])
def test_a_run_survives(backend, task, tmp_path):
    if not importlib.util.find_spec(backend):
        pytest.skip(f"needs the extra {backend}")
    # Most of the time XLA compiles: little, and once for all starts. TensorFlow
    # does not even trace: `test_fit.py` stops and resumes what was compiled.
    flags = ["--untraced"] if backend == "tensorflow" else []
    changes = {
        "KERAS_BACKEND": backend,
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = subprocess.run(
        [*MATRIX, "--kills", "3", "--task", task, *flags],
        env=os.environ | changes,
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BAD" not in done.stdout

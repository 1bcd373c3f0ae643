"""A sample of the cases in `tests/programs/crash_matrix.py`."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

MATRIX = [sys.executable, "-m", "programs.crash_matrix"]
KEPT = (
    "--tf_xla_persistent_cache_device_types=CPU "
    '--tf_xla_persistent_cache_directory="{}"'
)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax", "torch"])
@pytest.mark.parametrize("task", ["train", "pretrain"])
def test_a_run_survives(backend, task, tmp_path):
    if not importlib.util.find_spec(backend):
        pytest.skip(f"needs the extra {backend}")
    # Most of the time XLA compiles: little, and once for all starts. One
    # task is enough for it: to trace takes longer than a few steps.
    untraced = backend == "tensorflow" and task == "pretrain"
    changes = {
        "KERAS_BACKEND": backend,
        "XLA_FLAGS": "--xla_backend_optimization_level=0",
        "TF_XLA_FLAGS": KEPT.format(tmp_path),
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    done = subprocess.run(
        [*MATRIX, "--kills", "3", "--task", task, *["--untraced"] * untraced],
        env=os.environ | changes,
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        timeout=1200,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "BAD" not in done.stdout

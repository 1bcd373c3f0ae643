"""The step benchmark: time and memory of a training step."""

from __future__ import annotations

import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.config import Config
from har_keras.environment import device_name
from har_keras.errors import EnvironmentFault, UsageError
from har_keras.files import temporary_prefix
from har_keras.toml import write_toml


@dataclass(frozen=True)
class StepCost:
    """Cost of a training step of one candidate.

    Args:
        name: str. The candidate, see `step_worker.CANDIDATES`.
        seconds: float. Wall-clock time per clip, the median over rounds.
        cpu_seconds: float. CPU time per clip, the median over rounds.
        cpu_ratio: float. CPU time relative to the first candidate, the median
            of the ratios per round.
        peak_bytes: int. Peak memory of its process.
    """

    name: str
    seconds: float
    cpu_seconds: float
    cpu_ratio: float
    peak_bytes: int


def benchmark_step(
    config: Config | None = None, *, rounds: int = 5, peers: bool = False
) -> list[StepCost]:
    """Measures the training step of a model and prints a table.

    Args:
        config: Config or None. Model, clip and batch. Defaults to `Config()`.
        rounds: int. Measurements per candidate, at least 1. Defaults to `5`.
        peers: bool. Whether to measure other implementations too. Defaults to
            `False`.

    Returns:
        A list of `StepCost`, one per candidate, ours first.

    Raises:
        UsageError: If `rounds` is below 1.
        EnvironmentFault: If a peer is not installed.
    """
    if rounds < 1:
        raise UsageError(f"--rounds must be at least 1. Received: {rounds}.")
    if peers:
        _require_peers()
    import keras

    from har_keras.progress import ProgressBar

    config = config or Config()
    names = ["ours"]
    if peers:
        bare = ["bare"] if keras.config.backend() == "tensorflow" else []
        names += [*bare, "naive", "torch", "vivit"]
    rate = matmul_flops()
    with ProgressBar("Measuring", rounds * len(names)) as bar:
        costs = measure_steps(
            names, config, rounds=rounds, progress=bar.advance
        )
    print(_table(costs))
    print(f"On {device_name()}.")
    if config.model.model == "vit":
        print(_utilization(config, costs[0], rate))
    return costs


def measure_steps(
    names: Sequence[str],
    config: Config,
    *,
    rounds: int = 5,
    steps: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> list[StepCost]:
    """Measures the training step of several candidates; prints nothing.

    Each candidate is a process. They run one at a time and interleaved, A B C
    A B C, so that other load on the machine affects all of them alike; it
    affects CPU time least.

    Args:
        names: Sequence of str. Names in `step_worker.CANDIDATES`; ratios are
            to the first.
        config: Config. Model, clip and batch.
        rounds: int. Measurements per candidate. Defaults to `5`.
        steps: int. Training steps per measurement. Defaults to `1`.
        progress: Callable without arguments, called after each measurement.

    Returns:
        A list of `StepCost`, in the order of `names`.

    Raises:
        EnvironmentFault: If a candidate fails.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(prefix=temporary_prefix())
        )
        file = Path(folder) / "config.toml"
        write_toml(config, file)
        workers = [stack.enter_context(_worker(name, file)) for name in names]
        measured: list[list[dict[str, Any]]] = []
        for _ in range(rounds):
            measured.append([])
            for train in workers:
                measured[-1].append(train(steps))
                progress()
    return [_cost(name, i, measured) for i, name in enumerate(names)]


def matmul_flops(size: int = 2048, trials: int = 5) -> float:
    """Returns this machine's peak rate of a float32 matrix product.

    Args:
        size: int. Rows and columns. Defaults to `2048`.
        trials: int. Products timed; the fastest counts. Defaults to `5`.

    Returns:
        float. FLOPs per second of CPU time, which does not depend on the
        number of idle cores.
    """
    rng = np.random.default_rng(0)
    a = rng.normal(size=(size, size)).astype("float32")
    times = []
    for _ in range(trials):
        begin = time.process_time()
        a @ a
        times.append(time.process_time() - begin)
    return 2 * size**3 / min(times)


def _require_peers() -> None:
    """Raises `EnvironmentFault` if the other implementations can't run."""
    if not importlib.util.find_spec("har_keras.benchmark.step_peers"):
        raise EnvironmentFault(
            "--peers works in a checkout of the repository only: the "
            "installed package leaves out har_keras/benchmark/step_peers.py."
        )
    for package in ("torch", "transformers"):
        if not importlib.util.find_spec(package):
            raise EnvironmentFault(
                f"--peers requires the package {package}. Install it: pip "
                'install "har_keras[peers]".'
            )


@contextmanager
def _worker(
    name: str, config_file: Path
) -> Iterator[Callable[[int], dict[str, Any]]]:
    """Starts a candidate; yields a function that trains for some steps."""
    command = [sys.executable, "-m", "har_keras.benchmark.step_worker"]
    with (
        # A file, because a full pipe would block the process.
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            [*command, name, str(config_file)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        requests, responses = process.stdin, process.stdout

        def response() -> dict[str, Any]:
            line = responses.readline()
            if line:
                return dict(json.loads(line))
            code = process.wait()
            errors.seek(0)
            words = errors.read().decode(errors="replace").strip()
            reason = words.splitlines()[-1] if words else f"exit code {code}"
            raise EnvironmentFault(f"'{name}' did not run: {reason}.")

        def train(steps: int) -> dict[str, Any]:
            print(steps, file=requests, flush=True)
            return response()

        try:
            response()
            yield train
        finally:
            process.kill()


def _cost(name: str, i: int, rounds: list[list[dict[str, Any]]]) -> StepCost:
    def median(key: str) -> float:
        return statistics.median(turn[i][key] for turn in rounds)

    ratios = [
        turn[i]["cpu_seconds"] / turn[0]["cpu_seconds"] for turn in rounds
    ]
    return StepCost(
        name,
        median("seconds"),
        median("cpu_seconds"),
        statistics.median(ratios),
        max(turn[i]["peak_bytes"] for turn in rounds),
    )


def _table(costs: list[StepCost]) -> str:
    lines = ["           clips/s  cpu ms/clip  cpu/ours  peak MiB"]
    lines += [
        f"{cost.name:9} {1 / cost.seconds:8.1f} {1e3 * cost.cpu_seconds:12.2f} "
        f"{cost.cpu_ratio:9.2f} {cost.peak_bytes / 2**20:9.0f}"
        for cost in costs
    ]
    return "\n".join(lines)


def _utilization(config: Config, cost: StepCost, rate: float) -> str:
    """Returns which part of the peak rate a step reaches, in words."""
    from har_keras.benchmark.flops import step_flops
    from har_keras.model.options import transformer_options
    from har_keras.model.vit import VideoViT

    clip = config.clip
    options = transformer_options(config.model)
    model = VideoViT(3, clip.num_frames, clip.crop_size, **options)
    flops = step_flops(model)
    return (
        f"A step is {flops / 1e6:.1f} MFLOP per clip. A core of this machine "
        f"multiplies matrices at {rate / 1e9:.0f} GFLOP/s; the step reaches "
        f"{flops / cost.cpu_seconds / rate:.0%} of that."
    )

"""Training steps of several models, measured in turns."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.config import Config
from har_keras.errors import EnvironmentFault, UsageError
from har_keras.toml import write_toml


@dataclass(frozen=True)
class StepCost:
    """What a candidate's training takes.

    Args:
        name: str. The candidate.
        seconds: float. Wall-clock time a clip, the median of the rounds.
        cpu_seconds: float. Processor time a clip, the median.
        cpu_ratio: float. Processor time relative to the first candidate's,
            the median of the rounds' ratios.
        peak_bytes: int. Most memory that its process has held.
    """

    name: str
    seconds: float
    cpu_seconds: float
    cpu_ratio: float
    peak_bytes: int


def benchmark_steps(
    names: list[str],
    config: Config,
    *,
    rounds: int = 5,
    steps: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> list[StepCost]:
    """Returns what a training step costs each candidate.

    Each is a process of its own. They run one at a time, A B C A B C and so
    on, so that what else the machine does meets all of them; the processor
    time is what it disturbs least.

    Args:
        names: list of str. Contestants of `step_worker`; ratios are to the
            first.
        config: Config. The model, the clip and the batch.
        rounds: int. Turns of each.
        steps: int. Training steps in a turn.
        progress: Callable. Called after each turn.

    Returns:
        A `StepCost` for each, in the same order.

    Raises:
        EnvironmentFault: If one can't run here.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        file = Path(folder) / "config.toml"
        write_toml(config, file)
        workers = [stack.enter_context(_worker(name, file)) for name in names]
        answers: list[list[dict[str, Any]]] = []
        for _ in range(rounds):
            answers.append([])
            for train in workers:
                answers[-1].append(train(steps))
                progress()
    return [_cost(name, i, answers) for i, name in enumerate(names)]


@contextmanager
def _worker(
    name: str, config_file: Path
) -> Iterator[Callable[[int], dict[str, Any]]]:
    """Starts a candidate; gives what lets it train for some steps."""
    command = [sys.executable, "-m", "har_keras.benchmark.step_worker"]
    with (
        # Its errors go to a file: a full pipe would stop it.
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
        requests, answers = process.stdin, process.stdout

        def answer() -> dict[str, Any]:
            line = answers.readline()
            if line:
                return dict(json.loads(line))
            code = process.wait()
            errors.seek(0)
            words = errors.read().decode(errors="replace").strip()
            reason = words.splitlines()[-1] if words else f"exit code {code}"
            raise EnvironmentFault(f"'{name}' did not run: {reason}.")

        def train(steps: int) -> dict[str, Any]:
            print(steps, file=requests, flush=True)
            return answer()

        try:
            answer()
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


def matmul_flops(size: int = 2048, trials: int = 5) -> float:
    """Returns this machine's best rate of a float32 matrix product.

    Args:
        size: int. Rows and columns.
        trials: int. Products timed; the fastest counts.

    Returns:
        FLOPs per second of processor time, so that the number of cores that
        happen to be free does not matter.
    """
    rng = np.random.default_rng(0)
    a = rng.normal(size=(size, size)).astype("float32")
    times = []
    for _ in range(trials):
        begin = time.process_time()
        a @ a
        times.append(time.process_time() - begin)
    return 2 * size**3 / min(times)


def benchmark_step(
    config: Config | None = None, *, rounds: int = 5, peers: bool = False
) -> list[StepCost]:
    """Measures training steps and prints a table.

    Args:
        config: Config or None. Model, clip and batch. Defaults to `Config()`.
        rounds: int. Turns of each candidate, at least 1.
        peers: bool. Whether others race too.

    Returns:
        What a step costs each candidate, ours first.

    Raises:
        UsageError: If `rounds` is below 1.
        EnvironmentFault: If a peer is not installed.
    """
    if rounds < 1:
        raise UsageError(f"--rounds must be at least 1. Received: {rounds}.")
    import keras

    from har_keras.benchmark.flops import step_flops
    from har_keras.model.vit import VideoViT
    from har_keras.progress import ProgressBar

    config = config or Config()
    names = ["ours"]
    if peers:
        bare = ["bare"] if keras.config.backend() == "tensorflow" else []
        names += [*bare, "naive", "torch", "vivit"]
    rate = matmul_flops()
    with ProgressBar("Racing", rounds * len(names)) as bar:
        costs = benchmark_steps(
            names, config, rounds=rounds, progress=bar.advance
        )
    print(_table(costs))
    if config.model.model == "vit":
        from har_keras.model.build import transformer_options

        clip = config.clip
        options = transformer_options(config.model)
        model = VideoViT(3, clip.num_frames, clip.crop_size, **options)
        flops = step_flops(model)
        share = flops / costs[0].cpu_seconds / rate
        print(
            f"A step is {flops / 1e6:.1f} MFLOP a clip. A core of this machine "
            f"multiplies matrices at {rate / 1e9:.0f} GFLOP/s; ours reaches "
            f"{share:.0%} of that."
        )
    return costs


def _table(costs: list[StepCost]) -> str:
    lines = ["           clips/s  cpu ms/clip  cpu/ours  peak MiB"]
    lines += [
        f"{cost.name:9} {1 / cost.seconds:8.1f} {1e3 * cost.cpu_seconds:12.2f} "
        f"{cost.cpu_ratio:9.2f} {cost.peak_bytes / 2**20:9.0f}"
        for cost in costs
    ]
    return "\n".join(lines)

"""Training steps of several models, measured in turns."""

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
from har_keras.errors import EnvironmentFault
from har_keras.toml import write_toml


@dataclass(frozen=True)
class Cost:
    """What a contestant's training takes.

    Args:
        name: str. The contestant.
        seconds: float. Wall-clock time a clip, the median of the rounds.
        cpu_seconds: float. Processor time a clip, the median.
        cpu_ratio: float. Processor time relative to the first contestant's,
            the median of the rounds' ratios.
        peak_bytes: int. Most memory that its process has held.
    """

    name: str
    seconds: float
    cpu_seconds: float
    cpu_ratio: float
    peak_bytes: int


def race(
    names: list[str],
    config: Config,
    *,
    rounds: int = 5,
    steps: int = 1,
    progress: Callable[[], None] = lambda: None,
) -> list[Cost]:
    """Returns what a training step costs each contestant.

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
        A `Cost` for each, in the same order.

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
    """Starts a contestant; gives what lets it train for some steps."""
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


def _cost(name: str, i: int, rounds: list[list[dict[str, Any]]]) -> Cost:
    def median(key: str) -> float:
        return statistics.median(turn[i][key] for turn in rounds)

    ratios = [
        turn[i]["cpu_seconds"] / turn[0]["cpu_seconds"] for turn in rounds
    ]
    return Cost(
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

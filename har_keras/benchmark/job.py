"""Benchmarks a whole training, phase by phase, from a folder to a report."""

import contextlib
import os
import shlex
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from har_keras.benchmark.reading import cost, decode_with_ffmpeg
from har_keras.benchmark.step import matmul_flops
from har_keras.compiled import VARIABLE
from har_keras.config import Config
from har_keras.errors import EnvironmentFault
from har_keras.files import temporary_prefix
from har_keras.manifest.manifest import Manifest
from har_keras.phases import Phase, Phases
from har_keras.processes import Child
from har_keras.progress import ProgressBar
from har_keras.run import Run
from har_keras.toml import write_toml

_SECONDS_BETWEEN_LOOKS = 0.2


@dataclass(frozen=True)
class JobCost:
    """What a process took, with all that it started.

    Args:
        began: float. When it began, in seconds since 1970.
        wall_seconds: float. How long it ran.
        cpu_seconds: float. Processor time.
        memory: tuple of pairs of float and int. Resident bytes at times.
    """

    began: float
    wall_seconds: float
    cpu_seconds: float
    memory: tuple[tuple[float, int], ...]

    def peak_bytes(
        self, began: float = 0.0, ended: float = float("inf")
    ) -> int:
        """Returns the most memory at any time, or between two."""
        inside = [size for at, size in self.memory if began <= at <= ended]
        return max(inside, default=0)


@dataclass(frozen=True)
class PhaseCost:
    """What a phase of the job took: medians over rounds.

    Args:
        name: str. What was done.
        wall_seconds: float. How long it took.
        cpu_seconds: float. Processor time; 0 for what no phase accounts for.
        peak_bytes: int. Largest resident memory, of all processes together.
    """

    name: str
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int


def benchmark_job(
    videos: Path,
    config: Config,
    *,
    rounds: int = 1,
    again: bool = False,
    beside: str = "",
) -> list[PhaseCost]:
    """Trains on a folder in a process of its own, and prints what it took.

    Args:
        videos: Path. The folder.
        config: Config. Every option. Frames, features and compiled programs
            go to folders that are empty at first.
        rounds: int. How often. Defaults to `1`.
        again: bool. Whether each round trains a second time, with what the
            first left there, and that is measured. Defaults to `False`.
        beside: str. A command line to measure in turns with it, such as a
            training script of one's own. Defaults to none.

    Returns:
        list of `PhaseCost`; the last is the whole job.
    """
    jobs, others = [], []
    with ProgressBar("Measuring", rounds * (2 if beside else 1)) as bar:
        for _ in range(rounds):
            jobs.append(_trained(videos, config, again=again))
            bar.advance()
            if beside:
                others.append(measured(shlex.split(beside)))
                bar.advance()
    rows = _medians([_phase_costs(*job) for job in jobs])
    print(_table(rows))
    print(_limits(videos, config.clip.short_side))
    if others:
        print(_comparison([cost for cost, _ in jobs], others))
    return rows


def measured(
    command: Sequence[str], variables: Mapping[str, str] | None = None
) -> JobCost:
    """Runs a command to its end and returns what it took.

    Args:
        command: Sequence of str. The program and its arguments.
        variables: Mapping from str to str or None. Environment variables to
            set. Defaults to none.

    Raises:
        EnvironmentFault: If it can't be started, or fails.
    """
    began, memory = time.time(), list[tuple[float, int]]()
    environment = {**os.environ, **(variables or {})}
    spent = cost(lambda: _run(command, environment, memory))
    return JobCost(began, spent.wall_seconds, spent.cpu_seconds, tuple(memory))


def _run(
    command: Sequence[str],
    environment: Mapping[str, str],
    memory: list[tuple[float, int]],
) -> None:
    """Runs a command, and adds what memory it has to a list."""
    with tempfile.TemporaryFile() as words:
        try:
            process = Child(
                command, stdout=words, stderr=words, env=environment
            )
        except OSError as error:
            raise EnvironmentFault(
                f"'{command[0]}' can't be started: {error.strerror}."
            ) from error
        with _watched(process, memory):
            code = process.wait()
        words.seek(0)
        said = words.read().decode(errors="replace").strip().splitlines()
    if code:
        raise EnvironmentFault(
            f"'{shlex.join(command)}' ended with exit code {code}: "
            f"{said[-1] if said else 'it said nothing'}"
        )


@contextlib.contextmanager
def _watched(process: Child, memory: list[tuple[float, int]]) -> Iterator[None]:
    """Looks at the memory of a process tree; kills it if it is not done."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(_SECONDS_BETWEEN_LOOKS):
            memory.append((time.time(), _resident_bytes(process.pid)))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
        process.end()


def _resident_bytes(pid: int) -> int:
    total = 0
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        for one in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += one.memory_info().rss
    return total


def _trained(
    videos: Path, config: Config, *, again: bool
) -> tuple[JobCost, list[Phase]]:
    """Trains with nothing kept, or once more with what that left.

    Which are frames, features and what XLA compiled.
    """
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
        compiled = {VARIABLE: str(Path(folder, "compiled"))}
        file, run = Path(folder, "config.toml"), Run(Path(folder, "run"))
        own = config.replace(store_dir=Path(folder, "store"), wandb="off")
        write_toml(own, file)
        command = [
            *(sys.executable, "-m", "har_keras.train", str(videos)),
            *("--config", str(file), "--run-dir", str(run.path)),
        ]
        cost = measured(command, compiled)
        if again:
            command[-1] = str(Path(folder, "again"))
            run = Run(command[-1])
            cost = measured(command, compiled)
        return cost, Phases.read(run.phases_file).ended


def _phase_costs(cost: JobCost, phases: Sequence[Phase]) -> list[PhaseCost]:
    """Returns the phases of a job, what is between them, and the whole."""
    rows = [
        PhaseCost(
            phase.name,
            phase.wall_seconds,
            phase.cpu_seconds,
            cost.peak_bytes(phase.began, phase.ended),
        )
        for phase in phases
    ]
    others = PhaseCost(
        "start and the rest",
        cost.wall_seconds - sum(row.wall_seconds for row in rows),
        cost.cpu_seconds - sum(row.cpu_seconds for row in rows),
        cost.peak_bytes(ended=phases[0].began),
    )
    whole = PhaseCost(
        "in all", cost.wall_seconds, cost.cpu_seconds, cost.peak_bytes()
    )
    return [others, *rows, whole]


def _medians(rounds: Sequence[Sequence[PhaseCost]]) -> list[PhaseCost]:
    return [
        PhaseCost(
            same[0].name,
            statistics.median(row.wall_seconds for row in same),
            statistics.median(row.cpu_seconds for row in same),
            max(row.peak_bytes for row in same),
        )
        for same in zip(*rounds, strict=True)
    ]


def _table(rows: Sequence[PhaseCost]) -> str:
    lines = ["phase                wall s   cpu s  peak MiB"]
    lines += [
        f"{row.name:18} {row.wall_seconds:8.1f} {row.cpu_seconds:7.1f} "
        f"{row.peak_bytes / 2**20:9.0f}"
        for row in rows
    ]
    return "\n".join(lines)


def _limits(videos: Path, short_side: int) -> str:
    """Returns what the machine can do, to hold the phases against."""
    manifest = Manifest.from_folder(videos)
    files = {manifest.root / x.file for x in manifest.videos if not x.reason}
    spent = cost(lambda: decode_with_ffmpeg(files, short_side))
    return (
        f"This machine: {os.cpu_count()} processors. ffmpeg alone decodes and "
        f"scales the videos in {spent.cpu_seconds:.1f} cpu s; a matrix product "
        f"runs at {matmul_flops() / 1e9:.0f} GFLOP per cpu s."
    )


def _comparison(jobs: Sequence[JobCost], others: Sequence[JobCost]) -> str:
    """Returns ratios to the command that was measured in turns."""
    pairs = list(zip(jobs, others, strict=True))
    cpu = statistics.median(a.cpu_seconds / b.cpu_seconds for a, b in pairs)
    wall = statistics.median(a.wall_seconds / b.wall_seconds for a, b in pairs)
    other_cpu = statistics.median(b.cpu_seconds for _, b in pairs)
    other_wall = statistics.median(b.wall_seconds for _, b in pairs)
    peak = max(b.peak_bytes() for _, b in pairs) / 2**20
    return (
        f"The command beside it: {other_wall:.1f} s, {other_cpu:.1f} cpu s, "
        f"peak {peak:.0f} MiB. Ours takes {cpu:.2f} of its processor time and "
        f"{wall:.2f} of its time."
    )

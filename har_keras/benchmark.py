"""`python -m har_keras.benchmark`: how fast this machine is, and at what."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from har_keras import cli
from har_keras.config import Config
from har_keras.errors import UsageError

if TYPE_CHECKING:
    from har_keras.training.race import Cost

USAGE = """usage: python -m har_keras.benchmark PART [options]

Parts:
  step    training steps: clips/s, processor time, memory, share of the
          machine's arithmetic
  input   decoding, the frame store and augmentation: clips per cpu-second,
          and what they take beside a training step

-h after a part shows its options.
"""


@dataclass(frozen=True)
class StepOptions:
    """Measures training steps on clips of noise, through `fit`."""

    rounds: int = 5
    """Turns of each contestant."""
    peers: bool = False
    """Race Keras's own layers, a PyTorch twin and Hugging Face's ViViT too
    (extra peers)."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(
        default_factory=Config
    )
    """Everything else."""


def benchmark_step(
    config: Config | None = None, *, rounds: int = 5, peers: bool = False
) -> list[Cost]:
    """Measures training steps and prints a table.

    Args:
        config: Config or None. Model, clip and batch. Defaults to `Config()`.
        rounds: int. Turns of each contestant, at least 1.
        peers: bool. Whether others race too.

    Returns:
        What a step costs each contestant, ours first.

    Raises:
        UsageError: If `rounds` is below 1.
        EnvironmentFault: If a peer is not installed.
    """
    if rounds < 1:
        raise UsageError(f"--rounds must be at least 1. Received: {rounds}.")
    from har_keras.model.flops import step_flops
    from har_keras.model.vit import VideoViT
    from har_keras.progress import ProgressBar
    from har_keras.training.race import matmul_flops, race

    config = config or Config()
    names = ["ours", "naive", "torch", "vivit"] if peers else ["ours"]
    rate = matmul_flops()
    with ProgressBar("Racing", rounds * len(names)) as bar:
        costs = race(names, config, rounds=rounds, progress=bar.advance)
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


def _table(costs: list[Cost]) -> str:
    lines = ["           clips/s  cpu ms/clip  cpu/ours  peak MiB"]
    lines += [
        f"{cost.name:9} {1 / cost.seconds:8.1f} {1e3 * cost.cpu_seconds:12.2f} "
        f"{cost.cpu_ratio:9.2f} {cost.peak_bytes / 2**20:9.0f}"
        for cost in costs
    ]
    return "\n".join(lines)


def _step(argv: Sequence[str]) -> None:
    options = cli.parse(StepOptions, argv, verb="benchmark step")
    cli.start_backend(options.settings.training.backend)
    benchmark_step(options.settings, rounds=options.rounds, peers=options.peers)


@dataclass(frozen=True)
class InputOptions:
    """Measures the way from video files to training clips.

    Rates are clips per second of processor time; ways are taken in turn, and
    figures are medians over rounds.
    """

    videos: Annotated[Path | None, tyro.conf.Positional] = None
    """Folder of videos. Default: ten-second videos drawn for the purpose."""
    rounds: int = 3
    """How often each way is taken."""
    settings: Annotated[Config, tyro.conf.arg(name="")] = field(
        default_factory=Config
    )
    """Everything else."""


def _input(argv: Sequence[str]) -> None:
    options = cli.parse(InputOptions, argv, verb="benchmark input")
    if options.rounds < 1:
        raise UsageError(
            f"--rounds must be at least 1. Received: {options.rounds}."
        )
    cli.start_backend(options.settings.training.backend)
    from har_keras.training.input_speed import input_table, measure_input

    found = measure_input(options.videos, options.settings, options.rounds)
    print(input_table(found))


PARTS: dict[str, Callable[[Sequence[str]], None]] = {
    "step": _step,
    "input": _input,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the part that the first argument names."""

    def verb() -> None:
        arguments = sys.argv[1:] if argv is None else list(argv)
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE)
            return
        part, *rest = arguments
        if part not in PARTS:
            raise UsageError(
                f"There is no benchmark '{part}'. Choose {', '.join(PARTS)}."
            )
        PARTS[part](rest)

    return cli.run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())

"""`python -m har_keras.benchmark`: how fast this machine is, and at what."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from har_keras import cli
from har_keras.benchmark.options import (
    InputOptions,
    RecipesOptions,
    ServerOptions,
    StepOptions,
)
from har_keras.config import Config
from har_keras.environment import start_backend
from har_keras.errors import UsageError
from har_keras.toml import read_toml

USAGE = """usage: python -m har_keras.benchmark PART [options]

Parts:
  step     training steps: clips/s, processor time, memory, share of the
           machine's arithmetic
  input    decoding, the frame store and augmentation: clips per cpu-second,
           and what they take beside a training step
  server   latency and throughput of a model on TensorFlow Serving
  recipes  recipes on a folder of videos, cross-validated by group over seeds

-h after a part shows its options.
"""


def _step(options: StepOptions) -> None:
    start_backend(options.settings.training.backend)
    from har_keras.benchmark.step import benchmark_step

    benchmark_step(options.settings, rounds=options.rounds, peers=options.peers)


def _input(options: InputOptions) -> None:
    start_backend(options.settings.training.backend)
    from har_keras.benchmark.input import benchmark_input

    benchmark_input(options.videos, options.settings, rounds=options.rounds)


def _server(options: ServerOptions) -> None:
    from har_keras.benchmark.server import benchmark_server, print_load

    found = benchmark_server(
        options.server,
        options.videos,
        num_requests=options.requests,
        num_clients=options.clients,
    )
    print_load(found, options.format)
    found.require_answers()


def _recipes(options: RecipesOptions) -> None:
    from har_keras.benchmark.cross_validation import benchmark_recipes

    given = {
        name: value
        for name, value in options.settings.flat().items()
        if value != Config().flat()[name]
    }
    recipes = {}
    for text in options.recipes.split(","):
        path = Path(text)
        chosen = read_toml(path) if path.suffix == ".toml" else {"recipe": text}
        recipes[path.stem] = Config().replace(**chosen | given)
    benchmark_recipes(
        options.videos,
        recipes,
        num_folds=options.folds,
        num_seeds=options.seeds,
        on_test=options.test,
        jobs=options.jobs,
        output=options.output,
    )


OPTIONS: dict[str, type] = {
    "step": StepOptions,
    "input": InputOptions,
    "server": ServerOptions,
    "recipes": RecipesOptions,
}
_PARTS: dict[str, Callable[..., None]] = {
    "step": _step,
    "input": _input,
    "server": _server,
    "recipes": _recipes,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the part that the first argument names."""

    def verb() -> None:
        arguments = sys.argv[1:] if argv is None else list(argv)
        if not arguments or arguments[0] in ("-h", "--help"):
            print(USAGE)
            return
        part, *rest = arguments
        if part not in OPTIONS:
            raise UsageError(
                f"There is no benchmark '{part}'. Choose {', '.join(OPTIONS)}."
            )
        _PARTS[part](cli.parse(OPTIONS[part], rest, verb=f"benchmark {part}"))

    return cli.run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())

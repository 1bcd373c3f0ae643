"""`har-keras benchmark`: benchmarks on this machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from har_keras import cli
from har_keras.benchmark.options import (
    FeaturesOptions,
    InputOptions,
    JobOptions,
    LabelingOptions,
    RecipesOptions,
    ServerOptions,
    StepOptions,
)
from har_keras.config import Config
from har_keras.environment import start_backend
from har_keras.errors import UsageError
from har_keras.toml import read_toml

USAGE = """usage: har-keras benchmark PART [options]

Parts:
  step     training step: throughput, CPU time, memory and utilization
  features what a pretrained backbone costs, in frames per second
  input    input pipeline: decoding, frame store and augmentation, in clips
           per CPU second and relative to a training step
  job      a whole training, from a folder to a report: time, processor time
           and memory of each phase
  server   latency and throughput of a model on TensorFlow Serving
  recipes  accuracy of recipes on a folder of videos, in cross-validation by
           group over several seeds
  labeling answers that suggestions save while videos are labelled, simulated

PART -h shows the options of a part.
"""


def _step(options: StepOptions) -> None:
    start_backend(options.settings.training.backend, reads_data=False)
    from har_keras.benchmark.step import benchmark_step

    benchmark_step(options.settings, rounds=options.rounds, peers=options.peers)


def _features(options: FeaturesOptions) -> None:
    start_backend(options.settings.training.backend, reads_data=False)
    from har_keras.benchmark.features import benchmark_features

    benchmark_features(options.settings, rounds=options.rounds)


def _input(options: InputOptions) -> None:
    start_backend(options.settings.training.backend)
    from har_keras.benchmark.input import benchmark_input

    benchmark_input(options.videos, options.settings, rounds=options.rounds)


def _job(options: JobOptions) -> None:
    from har_keras.benchmark.job import benchmark_job

    benchmark_job(
        options.videos,
        options.settings,
        rounds=options.rounds,
        again=options.again,
        beside=options.beside,
    )


def _server(options: ServerOptions) -> None:
    from har_keras.benchmark.server import benchmark_server, print_result

    found = benchmark_server(
        options.server,
        options.videos,
        num_requests=options.requests,
        num_clients=options.clients,
    )
    print_result(found, options.format)
    found.require_success()


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
        sizes=_sizes(options),
        jobs=options.jobs,
        output=options.output,
    )


def _labeling(options: LabelingOptions) -> None:
    start_backend(Config().training.backend)
    from har_keras.benchmark.labeling import benchmark_labeling

    benchmark_labeling(
        options.videos,
        options.store_dir,
        strategies=options.strategies.split(","),
        num_answers=options.answers,
        at_once=options.at_once,
        num_starts=options.starts,
        wrong_share=options.wrong,
        on_test=options.test,
        first_start=options.first_start,
        backbone=options.backbone,
        output=options.output,
    )


def _sizes(options: RecipesOptions) -> tuple[int, ...]:
    """Returns the numbers of videos per class; 0 is all."""
    text = options.videos_per_class
    if not text:
        return (0,)
    if not options.test:
        raise UsageError("--videos-per-class needs --test.")
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise UsageError(
            "--videos-per-class must be numbers, separated by commas. "
            f"Received: {text}."
        ) from None


OPTIONS: dict[str, type] = {
    "step": StepOptions,
    "features": FeaturesOptions,
    "input": InputOptions,
    "job": JobOptions,
    "server": ServerOptions,
    "recipes": RecipesOptions,
    "labeling": LabelingOptions,
}
_PARTS: dict[str, Callable[..., None]] = {
    "step": _step,
    "features": _features,
    "input": _input,
    "job": _job,
    "server": _server,
    "recipes": _recipes,
    "labeling": _labeling,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Parses the flags of the part in the first argument and runs it."""

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

"""The likely classes of samples by a trained run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from har_keras.inference.classifier import Classifier
from har_keras.inference.load import load, stored_form
from har_keras.inference.views import predict_videos
from har_keras.run import Run
from har_keras.store.store import Store
from har_keras.suggestions.samples import (
    DecodedSamples,
    Progress,
    Sample,
    decode_samples,
    require_some,
    run_config,
)
from har_keras.suggestions.suggest import Suggestions


@dataclass(frozen=True)
class RunAnswers:
    """What a run says of samples.

    Args:
        class_names: tuple of str. The classes of the run.
        probabilities: float array of shape `(N, K)`. Means over the views of a
            sample, calibrated on the run's validation videos; NaN where a
            sample can't be read.
        reasons: list of str. Why a sample can't be read; "" if it can.
    """

    class_names: tuple[str, ...]
    probabilities: np.ndarray
    reasons: list[str]

    @property
    def likely(self) -> list[tuple[str, float] | None]:
        """The likely class of each sample, as in `Suggestions`."""
        found: list[tuple[str, float] | None] = []
        for row in self.probabilities:
            if np.isfinite(row).all():
                best = int(row.argmax())
                found.append((self.class_names[best], float(row[best])))
            else:
                found.append(None)
        return found


def run_answers(
    samples: Sequence[Sample],
    store_dir: Path | None,
    run: str | Path,
    *,
    progress: Progress | None = None,
) -> RunAnswers:
    """Returns the probabilities that a run gives to samples.

    They are those of `evaluate` and `predict`: the mean over the views of a
    sample, with the run's temperature. Frames, and features of a frozen
    backbone, are kept in the store.

    Args:
        samples: Sequence of Sample. Videos, and parts of them.
        store_dir: Path or None. The store. Defaults to that of the user.
        run: str or Path. A trained run.
        progress: Callable or None. As for `sample_features`.

    Returns:
        `RunAnswers`.

    Raises:
        DataError: If there is no such run, or no sample can be read.
        EnvironmentFault: If the disk is full or can't be written to.
    """
    classifier = load(Path(run))
    config = run_config(run, store_dir)
    if not config.reads_features:
        config = config.replace(cache=stored_form(Run(Path(run))))
    classifier.config = config
    decoded = decode_samples(samples, config, progress)
    require_some(samples, decoded)
    found = np.full((len(samples), len(classifier.class_names)), np.nan)
    found[decoded.usable] = _probabilities(classifier, decoded, progress)
    return RunAnswers(classifier.class_names, found, decoded.reasons)


def _probabilities(
    classifier: Classifier, decoded: DecodedSamples, progress: Progress | None
) -> np.ndarray:
    """Returns the calibrated probabilities of the samples with frames."""
    videos = [decoded.videos[i] for i in decoded.usable]
    done = 0

    def advance() -> None:
        nonlocal done
        done += 1
        if progress:
            progress("Asking the model", done, len(videos))

    manifest = dataclasses.replace(
        decoded.manifest, class_names=classifier.class_names
    )
    rows = predict_videos(
        classifier.model,
        _store(classifier, decoded),
        manifest,
        videos,
        classifier.config.clip,
        classifier.config.evaluation,
        progress=advance,
    )
    return classifier.calibration.calibrated(rows)


def _store(classifier: Classifier, decoded: DecodedSamples) -> Store:
    """Returns the store, with features where the model reads them."""
    from har_keras.features.preparation import with_features

    if not classifier.config.reads_features:
        return decoded.store
    videos = [decoded.videos[i] for i in decoded.usable]
    return with_features(
        decoded.store, classifier.model.backbone, classifier.config, videos
    )


def with_run(found: Suggestions, answers: RunAnswers) -> Suggestions:
    """Returns suggestions whose likely classes are a run's.

    What to label next and which labels look wrong still come from the labels
    at hand: the run may have been trained on them, and believes them.

    Args:
        found: Suggestions. Of `suggest`.
        answers: RunAnswers. Of the same samples.

    Example:

    >>> answers = RunAnswers(("a", "b"), np.array([[0.2, 0.8]]), [""])
    >>> with_run(Suggestions([None], [0]), answers)
    Suggestions(likely=[('b', 0.8)], label_next=[0], look_wrong=[])
    """
    return dataclasses.replace(found, likely=answers.likely)

"""Measures a model on decoded videos: every figure of an evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from har_keras.config import Config, EvaluationConfig
from har_keras.environment import versions
from har_keras.errors import UsageError
from har_keras.evaluation.controls import predict_controls
from har_keras.evaluation.fitting import (
    FAR_SHARE,
    fit_calibration,
    fit_reference,
)
from har_keras.evaluation.metrics import (
    calibration,
    evaluate_predictions,
    ranking,
)
from har_keras.evaluation.robustness import CORRUPTIONS
from har_keras.evaluation.timelines import require_labels_in_time
from har_keras.inference.calibration import Calibration
from har_keras.inference.classifier import Classifier
from har_keras.inference.controls import CONTROLS
from har_keras.inference.coverage import accuracy_coverage, groups_needed
from har_keras.inference.distance import Measured, has_features
from har_keras.inference.forward import answers_of, features_of
from har_keras.inference.timeline import TimelineConfig
from har_keras.inference.views import (
    predict_videos,
    predict_views_of_videos,
    spread_over_classes,
    view_clips,
)
from har_keras.manifest.division import has_known_group
from har_keras.manifest.manifest import Manifest, Video
from har_keras.progress import ProgressBar
from har_keras.run import Run
from har_keras.serving.acceptance import Reference, parted
from har_keras.store.parts import with_background
from har_keras.store.preparation import decode_usable
from har_keras.store.scenes import group_by_scenes
from har_keras.store.store import Store

# Training videos that are looked at again, to know what others are unlike.
_MOST_TRAINING_VIDEOS = 200
_LEAST_OF_A_CLASS = 3


def measure(
    classifier: Classifier,
    store: Store,
    manifest: Manifest,
    chosen: Sequence[Video],
    *,
    robustness: bool = False,
) -> tuple[dict[str, Any], np.ndarray]:
    """Measures a model on videos, as they are and under the controls.

    Args:
        classifier: Classifier. The model, its views and its calibration.
        store: Store. The decoded frames.
        manifest: Manifest. Gives classes and their order.
        chosen: Sequence of Video. What to measure on, usable or not.
        robustness: bool. Whether to measure on corrupted frames, too.

    Returns:
        The figures of `evaluation.json`, but the split; and the probabilities
        of the usable videos, `float64` `(num_videos, K)`.
    """
    config, scored = classifier.config, usable(chosen)
    labels = np.array([manifest.label(video) for video in scored], dtype=int)
    corruptions = CORRUPTIONS if robustness else ()
    passes = 1 + len(CONTROLS) + len(corruptions)
    with ProgressBar("Evaluating", len(scored) * passes) as bar:

        def predicted(**options: Any) -> np.ndarray:
            return predict_videos(
                classifier.model, store, manifest, scored,
                config.clip, config.evaluation,
                progress=bar.advance, **options,
            )  # fmt: skip

        def accuracy(found: np.ndarray) -> float:
            return float((found.argmax(1) == labels).mean())

        rows = predict_views_of_videos(
            classifier.model, store, manifest, scored,
            config.clip, config.evaluation,
            progress=bar.advance, run=answers_of,
        ).mean(1)  # fmt: skip
        probabilities, distances = parted(rows)
        controls = predict_controls(
            classifier.model, store, scored,
            config.clip, config.evaluation, progress=bar.advance,
        )  # fmt: skip
        worse = [
            {
                "name": corruption.name,
                "what": corruption.text,
                "accuracy": accuracy(predicted(change=corruption.change)),
            }
            for corruption in corruptions
        ]
    figures = evaluate_predictions(
        labels,
        probabilities,
        class_names=manifest.class_names,
        groups=[video.group for video in scored],
        known=has_known_group(manifest.videos, scored),
        failed=[(v.name, v.reason) for v in chosen if not v.kept_frames],
    )
    if any(video.is_part for video in chosen):
        figures["unit"] = "parts"
    figures["views"] = {
        name: getattr(config.evaluation, name)
        for name in ("num_clips", "num_crops")
    }
    figures["controls"] = {
        name: accuracy(found) for name, found in controls.items()
    }
    figures["robustness"] = worse
    figures["ranking"] = ranking(labels, probabilities, manifest.class_names)
    figures["damaged"] = [
        {"file": v.name, "reason": v.reason} for v in scored if v.reason
    ]
    figures["versions"] = versions()
    if backbone := getattr(classifier.model, "backbone", None):
        figures["backbone"] = backbone.described()
    figures["frames"] = store.spec.form
    calibrated = classifier.calibration.calibrated(probabilities)
    figures["calibrated"] = {
        **classifier.calibration.figures(),
        **calibration(labels, calibrated),
    }
    figures["acceptance"] = acceptance(
        labels == probabilities.argmax(1),
        calibrated.max(1),
        classifier.calibration.accepts(probabilities, distances),
        classifier.calibration.is_far(distances),
    )
    return figures, probabilities


def acceptance(
    right: np.ndarray,
    confidences: np.ndarray,
    accepts: np.ndarray,
    far: np.ndarray,
) -> dict[str, Any]:
    """Returns what is accepted, and what other thresholds alone would accept.

    Args:
        right: bool array of shape `(num_videos,)`.
        confidences: float array of shape `(num_videos,)`, calibrated.
        accepts: bool array of shape `(num_videos,)`.
        far: bool array of shape `(num_videos,)`. Which are too far from
            the training videos.

    Example:

    >>> found = acceptance(
    ...     np.array([True, False]),
    ...     np.array([0.9, 0.6]),
    ...     np.array([True, False]),
    ...     np.array([False, False]),
    ... )
    >>> found["coverage"], found["accuracy"], found["curve"][-1]
    (0.5, 1.0, [0.6, 1.0, 0.5])
    """
    curve = accuracy_coverage(right, confidences, range(len(right)))
    kept = int(accepts.sum())
    return {
        "num_accepted": kept,
        "num_far": int(far.sum()),
        "coverage": kept / len(right),
        "accuracy": float(right[accepts].mean()) if kept else None,
        # Rows of threshold, coverage and accuracy.
        "curve": np.stack(
            [curve.thresholds, curve.coverage, curve.accuracy], 1
        ).tolist(),
    }


def fit_on_validation(
    run: Run, model: Any, store: Store, manifest: Manifest, config: Config
) -> Calibration:
    """Fits a calibration on a run's validation videos, and keeps it.

    Distances are from training videos, which are looked at once more; not if
    there are too few validation videos to choose a limit by, or no backbone.

    Args:
        run: Run. Where it is written.
        model: `keras.Model` from uint8 clips to probabilities `(B, K)`.
        store: Store. The decoded frames.
        manifest: Manifest. The run's own videos.
        config: Config. That of the run, with the errors to accept.

    Returns:
        The `Calibration`.
    """
    videos = manifest.usable("val")
    labels = np.array([manifest.label(video) for video in videos], dtype=int)
    known = has_known_group(manifest.videos, videos)
    if config.split.group_by == "file":  # The user says that they are.
        known = [True] * len(videos)
    groups = [video.group for video in videos]
    several = {x for x, is_known in zip(groups, known, strict=True) if is_known}
    # Features of pixels alone tell known from unknown videos no better than
    # chance (docs/predict.md).
    tells = has_features(model) and config.features.backbone != "none"
    reference = None
    if tells and len(several) >= groups_needed(FAR_SHARE):
        reference = _reference(model, store, manifest, config)
    measured = model if reference is None else Measured(model, reference)
    with ProgressBar("Calibrating", len(videos)) as bar:
        rows = predict_views_of_videos(
            measured, store, manifest, videos, config.clip, config.evaluation,
            progress=bar.advance, run=answers_of,
        )  # fmt: skip
    views, distances = parted(rows) if len(videos) else (rows, None)
    found = fit_calibration(
        labels,
        views,
        groups,
        known=known,
        accept_errors=config.evaluation.accept_errors,
        distances=distances,
        reference=reference,
    )
    if tells:
        found = dataclasses.replace(found, far_share=FAR_SHARE)
    found.write(run)
    return found


def _reference(
    model: Any, store: Store, manifest: Manifest, config: Config
) -> Reference | None:
    """Returns what a run's training videos look like to its model."""
    number = max(
        _MOST_TRAINING_VIDEOS, _LEAST_OF_A_CLASS * len(manifest.class_names)
    )
    videos = spread_over_classes(manifest, "train", number)
    if not videos:
        return None
    config = config.changed({"num_crops": 1})
    store = with_views(store, model, config, videos)
    with ProgressBar("Looking at training videos", len(videos)) as bar:
        rows = predict_views_of_videos(
            Measured(model), store, manifest, videos,
            config.clip, config.evaluation,
            progress=bar.advance, run=features_of,
        )  # fmt: skip
    labels = np.array([manifest.label(video) for video in videos], dtype=int)
    return fit_reference(rows[..., len(manifest.class_names) :], labels)


def usable(videos: Sequence[Video]) -> list[Video]:
    """Returns the videos that could be decoded."""
    return [video for video in videos if video.kept_frames]


def with_views(
    store: Store, model: Any, config: Config, videos: Sequence[Video]
) -> Store:
    """Returns a store that has what a model reads of videos.

    Args:
        store: Store. The decoded frames.
        model: Any. A model of `har_keras.inference.load`.
        config: Config. The sections `clip` and `evaluation`.
        videos: Sequence of Video. Usable ones.

    Returns:
        A `FeatureStore` for a model with a backbone, else the same store.
    """
    backbone = getattr(model, "backbone", None)
    if backbone is None:
        return store
    from har_keras.features.preparation import with_features

    return with_features(store, backbone, config, videos)


def own_videos(run: Run, store: Store | None) -> tuple[Manifest, Store]:
    """Returns a run's own videos, decoded."""
    own, config = Manifest.read(run.manifest_file), run.config_to_open()
    if store is None:
        store, own = decode_usable(own, config.clip, config.store)
    return own, store


def other_videos(
    videos: Path, classifier: Classifier, timeline: TimelineConfig | None = None
) -> tuple[Manifest, Store]:
    """Returns the videos of a folder, under a model's classes, decoded.

    Args:
        videos: Path. The folder.
        classifier: Classifier. Gives the classes and the clip.
        timeline: TimelineConfig or None. What is to be predicted of whole
            videos, which needs labels in time.

    Raises:
        UsageError: If a class is none of the model's, or no label has a time.
    """
    config, names = classifier.config, classifier.class_names
    other = Manifest.to_evaluate(videos, names)
    strange = sorted(set(other.class_names) - set(names))
    if strange:
        raise UsageError(
            f"'{other.root}' has classes that the run was not trained on: "
            f"{', '.join(strange)}. The run's are {', '.join(names)}."
        )
    require_labels_in_time(other.videos, timeline)
    splits = [video.split for video in other.videos]
    store, other = decode_usable(
        _all_in(other, "train"), config.clip, config.store
    )
    other = group_by_scenes(store, other)
    other = other.with_videos(
        dataclasses.replace(video, split=name)
        for video, name in zip(other.videos, splits, strict=True)
    )
    if config.split.background == "class":
        other = with_background(other, store, config.clip)
    return dataclasses.replace(other, class_names=names), store


def _all_in(manifest: Manifest, split: str) -> Manifest:
    """Returns a manifest in one split, for there is nothing to train on."""
    return manifest.with_videos(
        dataclasses.replace(video, split=split) for video in manifest.videos
    )


class RunVideos:
    """The decoded videos of a run.

    Args:
        run: Run. A trained one.
    """

    def __init__(self, run: Run) -> None:
        self.config = run.config_to_open()
        self.store, self.manifest = decode_usable(
            Manifest.read(run.manifest_file),
            self.config.clip,
            self.config.store,
        )

    def clips(self, split: str, number: int) -> np.ndarray:
        """Returns the middle clips of some videos, spread over a split.

        Those of training videos where the split has none.
        """
        one = EvaluationConfig(num_clips=1, num_crops=1)
        videos = spread_over_classes(
            self.manifest, split, number
        ) or spread_over_classes(self.manifest, "train", number)
        return np.concatenate(
            [view_clips(self.store, v, self.config.clip, one) for v in videos]
        )

    def accuracy_of(self, model: Any) -> float | None:
        """Returns the accuracy on the test videos, if there are some."""
        videos = self.manifest.usable("test")
        if not videos:
            return None
        store = with_views(self.store, model, self.config, videos)
        found = predict_videos(
            model, store, self.manifest, videos,
            self.config.clip, self.config.evaluation,
        )  # fmt: skip
        labels = [self.manifest.label(video) for video in videos]
        return float((found.argmax(1) == labels).mean())

"""What the page shows of a prediction, as JSON."""

import base64
from collections import defaultdict
from typing import Any

import cv2

from har_keras.inference.classifier import Classifier, Prediction
from har_keras.inference.timeline import NONE
from har_keras.report.printing import NONE_OF_THESE
from har_keras.report.timeline_files import class_color, timeline_texts
from har_keras.serving.acceptance import FAR
from har_keras.terminal import printable

_MAX_SIDE = 160
_JPEG_QUALITY = 80


def model_as_json(classifier: Classifier, name: str) -> dict[str, Any]:
    """Returns what the page shows of the model, and needs of it."""
    clip = classifier.config.clip
    return {
        "model": printable(name),
        "classes": [
            {"name": printable(name), "color": class_color(label)}
            for label, name in enumerate(classifier.class_names)
        ],
        "verdict": classifier.calibration.verdict,
        "clip": {
            "frames": clip.num_frames,
            "fps": clip.fps,
            "short_side": 2 * clip.short_side,
        },
    }


def answer_as_json(
    found: Prediction, classifier: Classifier, name: str
) -> dict[str, Any]:
    """Returns the answer to a video, with the files of its timeline.

    Args:
        found: Prediction. With a timeline.
        classifier: Classifier. The model.
        name: str. Name of the video.
    """
    assert found.timeline is not None
    timeline = found.timeline
    segments = [
        {
            "start": segment.start_seconds,
            "end": segment.end_seconds,
            "label": _shown(segment.label),
            "class": _place(segment.label, classifier),
            "share": segment.score,
        }
        for segment in found.segments
    ]
    return {
        **label_as_json(found),
        "words": in_words(found),
        "times": [
            {"label": label, "class": _place(label, classifier), "share": x}
            for label, x in _shares(time_of_labels(found)).items()
        ],
        "seconds": found.seconds,
        "threshold": timeline.threshold,
        "far": timeline.far_spans,
        "edges": timeline.edges.round(3).tolist(),
        "rows": timeline.probabilities.round(4).tolist(),
        "segments": segments,
        "files": timeline_texts(timeline, name),
        "pictures": [
            {"seconds": seconds, "jpeg": _jpeg(frame)}
            for seconds, frame in found.pictures
        ],
    }


def label_as_json(found: Prediction) -> dict[str, Any]:
    """Returns the one answer: a class, or "none of these"; and all shares."""
    return {
        "answer": printable(found.label) if found.accepted else NONE_OF_THESE,
        "accepted": found.accepted,
        "confidence": found.confidence,
        "shares": list((found.calibrated or {}).values()),
    }


def in_words(found: Prediction) -> str:
    """Returns a prediction as sentences, which its timeline bears out.

    Example:

    >>> in_words(Prediction("a", "walk", 0.4, {}, 3.0, accepted=False))
    'The nearest class is walk, with a confidence of 40 %, which is too low to
    be accepted.'
    >>> in_words(
    ...     Prediction("a", "gym", 0.9, {}, accepted=False, refusal="far")
    ... )
    'The video is unlike those that the model was trained on. The nearest class
    is gym.'
    """
    name, times = printable(found.label), time_of_labels(found)
    confidence = found.confidence
    if found.accepted and times:
        confidence = _score_of(found)
        whole = f"{found.seconds:.1f} s"
        part = "" if len(times) == 1 else f"{times[name]:.1f} of "
        note = f"For {part}{whole}, with a confidence of {confidence:.0%}."
        rest = [f"{x} for {n:.1f} s" for x, n in times.items() if x != name]
        note += f" Besides: {', '.join(rest)}." if rest else ""
    elif found.accepted:
        note = f"With a confidence of {confidence:.0%}."
    elif found.refusal == FAR:
        note = (
            "The video is unlike those that the model was trained on. The "
            f"nearest class is {name}."
        )
    else:
        note = (
            f"The nearest class is {name}, with a confidence of "
            f"{confidence:.0%}, which is too low to be accepted."
        )
    note = note.replace("%", " %")
    if found.reason:
        note += f" Only part of the video was used: {found.reason}."
    return note


def time_of_labels(found: Prediction) -> dict[str, float]:
    """Returns the seconds of each label of a timeline, the longest first."""
    seconds: defaultdict[str, float] = defaultdict(float)
    for segment in found.segments:
        length = segment.end_seconds - segment.start_seconds
        seconds[_shown(segment.label)] += length
    return dict(sorted(seconds.items(), key=lambda x: -x[1]))


def _score_of(found: Prediction) -> float:
    """Returns the mean confidence of the segments of the answer."""
    mine = [x for x in found.segments if x.label == found.label]
    lengths = [x.end_seconds - x.start_seconds for x in mine]
    total = sum(x.score * n for x, n in zip(mine, lengths, strict=True))
    return total / sum(lengths)


def _shares(times: dict[str, float]) -> dict[str, float]:
    total = sum(times.values())
    return {label: seconds / total for label, seconds in times.items()}


def _shown(label: str) -> str:
    return NONE_OF_THESE if label == NONE else printable(label)


def _place(label: str, classifier: Classifier) -> int:
    """Returns the number of a class; -1 is none of them."""
    names = [printable(name) for name in classifier.class_names]
    label = printable(label)
    return names.index(label) if label in names else -1


def _jpeg(frame: Any) -> str:
    height, width = frame.shape[:2]
    scale = min(1.0, _MAX_SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(frame[..., ::-1], size, interpolation=cv2.INTER_AREA)
    quality = [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY]
    encoded = bytes(cv2.imencode(".jpg", small, quality)[1])
    return base64.b64encode(encoded).decode()

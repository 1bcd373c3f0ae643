"""The model card of a run, its README.md."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from har_keras.config import Config
from har_keras.ranges import flag
from har_keras.report.verdict import headline, percent
from har_keras.terminal import printable


@dataclass(frozen=True)
class HubCard:
    """What a card on a hub says besides.

    Args:
        name: str. `owner/name`.
        license: str. That of the model, by the hub's names. Defaults to
            "unknown": the videos are the user's, and so is their licence.
        base_model: str. `owner/name` of the model on the hub that it was made
            from; "" if it was from none.
    """

    name: str = ""
    license: str = "unknown"
    base_model: str = ""


def model_card(
    name: str,
    config: Config,
    evaluation: Mapping[str, Any],
    videos: Mapping[str, Mapping[str, int]],
    num_parameters: int,
    on_hub: HubCard | None = None,
) -> str:
    """Writes the model card of a run in Markdown.

    It begins with the metadata that Hugging Face's hub reads.

    Args:
        name: str. The name of the run.
        config: Config. The options of the run.
        evaluation: Mapping. The figures of `evaluation.json`.
        videos: Mapping from class to counts of videos by split.
        num_parameters: int. Number of parameters of the model.
        on_hub: HubCard or None. What differs on a hub. Defaults to that in the
            folder of a run.

    Returns:
        str. The text of `README.md`.
    """
    parts = [
        _metadata(name, evaluation, on_hub or HubCard()),
        f"# {markdown_text(name)}",
        _model(config, evaluation, num_parameters),
        *_backbone(evaluation),
        "## Result",
        f"On the {evaluation['split']} split: {headline(evaluation)}",
        _class_table(evaluation, videos),
        "![Confusion matrix](confusion.png)\n\n![Training](curves.png)",
        *_controls(evaluation),
        "## Use",
        _use_of_hub(on_hub) if on_hub else _use(),
        "## Limits",
        _limits(evaluation),
        "## Training",
        _options(config)
        + (
            " The videos are not here."
            if on_hub
            else " The videos, their splits and groups are in `manifest.csv`."
        ),
        _versions(evaluation),
    ]
    return "\n\n".join(parts) + "\n"


def markdown_text(text: str) -> str:
    r"""Escapes a name for Markdown.

    Example:

    >>> markdown_text("a|b <script> *c*")
    'a\\|b &lt;script&gt; \\*c\\*'
    """
    text = escape(printable(" ".join(text.split())), quote=False)
    for letter in "\\`*_[]|#!~":
        text = text.replace(letter, "\\" + letter)
    return text


def _metadata(name: str, evaluation: Mapping[str, Any], on_hub: HubCard) -> str:
    """Returns the front matter, whose values are YAML in the form of JSON."""
    metrics = [
        {"type": metric, "name": words, "value": round(evaluation[metric], 4)}
        for metric, words in (
            ("accuracy", "Accuracy"),
            ("balanced_accuracy", "Balanced accuracy"),
        )
    ]
    task = {"type": "video-classification"}
    dataset = {
        "name": "videos of the user",
        "type": "video-folder",
        "split": evaluation["split"],
    }
    result = {"task": task, "dataset": dataset, "metrics": metrics}
    values = {
        "library_name": "keras",
        "pipeline_tag": "video-classification",
        "tags": ["har_keras", "action-recognition", "video"],
        "license": on_hub.license,
        **({"base_model": on_hub.base_model} if on_hub.base_model else {}),
        "model-index": [{"name": printable(name), "results": [result]}],
    }
    lines = [f"{key}: {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(["---", *lines, "---"])


def _model(
    config: Config, evaluation: Mapping[str, Any], num_parameters: int
) -> str:
    names = [markdown_text(name) for name in evaluation["class_names"]]
    clip = config.clip
    return (
        "A video classifier (Vision Transformer on tubelets) with "
        f"{len(names)} classes: {', '.join(names)}. Its input is "
        f"{clip.num_frames} frames at {clip.fps:g} per second "
        f"({clip.span_seconds:g} s) of {clip.crop_size} x {clip.crop_size} "
        f"pixels. It has {num_parameters:,} parameters."
    )


def _backbone(evaluation: Mapping[str, Any]) -> list[str]:
    backbone = evaluation.get("backbone")
    if not backbone:
        return []
    return [
        "It reads the features of a pretrained network, "
        f"`{markdown_text(backbone['name'])}`, whose weights are from "
        f"{markdown_text(backbone['source'])} under the licence "
        f"{markdown_text(backbone['license'])}, which also holds for this "
        "model and its exports (SHA-256 of the weights: "
        f"`{backbone['weights_sha256']}`)."
    ]


def _class_table(
    evaluation: Mapping[str, Any], videos: Mapping[str, Mapping[str, int]]
) -> str:
    lines = [
        "| class | precision | recall | F1 | tested on | trained on |",
        "|---|---|---|---|---|---|",
    ]
    for row in evaluation["per_class"]:
        name = row["class"]
        figures = [
            "not tested" if row[key] is None else f"{row[key]:.3f}"
            for key in ("precision", "recall", "f1")
        ]
        trained = videos.get(name, {}).get("train", 0)
        cells = [markdown_text(name), *figures, row["support"], trained]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def _controls(evaluation: Mapping[str, Any]) -> list[str]:
    controls = evaluation.get("controls")
    if not controls:
        return []
    return [
        "Accuracy is "
        f"{percent(controls['single_frame'])} with a single repeated frame, "
        f"{percent(controls['shuffled'])} with shuffled frames and "
        f"{percent(controls['reversed'])} with reversed frames: the difference "
        "from the result is what the model gains from motion."
    ]


def _use() -> str:
    return (
        "```sh\n"
        "har-keras evaluate . --videos FOLDER\n"
        "```\n\n"
        "`saved_model/` is for TensorFlow Serving. In Python, "
        '`har_keras.VideoClassifier.load(".").model` is the Keras model of '
        "`model.keras`, which plain Keras cannot open: its layers are in "
        "`har_keras`. Both take `uint8` RGB frames and rescale them inside."
    )


def _use_of_hub(on_hub: HubCard) -> str:
    return (
        "```sh\n"
        'pip install "har_keras[hub]"\n'
        f"har-keras predict hf://{on_hub.name} video.mp4\n"
        "```\n\n"
        "In Python, "
        f'`har_keras.VideoClassifier.load("hf://{on_hub.name}")` is the '
        "classifier; its `model` is the Keras model of `model.keras`, which "
        "plain Keras cannot open: its layers are in `har_keras`. It takes "
        "`uint8` RGB frames and rescales them inside."
    )


def _limits(evaluation: Mapping[str, Any]) -> str:
    unknown = 2 * evaluation.get("num_unknown_groups", 0)
    sources = (
        "unknown sources"
        if unknown > evaluation["num_videos"]
        else f"{evaluation['num_groups']} groups"
    )
    return (
        f"The result is from {evaluation['num_videos']} "
        f"{evaluation.get('unit', 'videos')} of "
        f"{sources} that resemble the training "
        "videos; accuracy can be lower for other places, cameras and people. "
        "The model predicts one of its classes for any video, also if it shows "
        "none of them. A class name is no judgment of the person in the video."
    )


def _options(config: Config) -> str:
    defaults = Config().flat()
    changed = [
        f"{flag(name)} {value}"
        for name, value in config.flat().items()
        if value != defaults[name]
    ]
    shown = (printable(option.replace("`", "")) for option in changed)
    text = "; ".join(f"`{option}`" for option in shown)
    return "Every option is in `config.toml`. " + (
        f"Not default: {text}." if changed else "All are defaults."
    )


def _versions(evaluation: Mapping[str, Any]) -> str:
    pairs = evaluation.get("versions", {}).items()
    return "Made with " + ", ".join(f"{name} {v}" for name, v in pairs) + "."

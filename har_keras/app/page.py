"""The web page: a video in; its classes, timeline and attention out.

It is built with Gradio, of the extra `app`, which is imported when the page is
made.
"""

import contextlib
import dataclasses
import functools
import importlib
import json
import os
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from har_keras.errors import EnvironmentFault, HarError, UsageError
from har_keras.inference.classifier import Classifier, Prediction
from har_keras.inference.limits import Limits, require_within
from har_keras.inference.load import kind_of, load, start_backend_of
from har_keras.inference.timeline import NONE
from har_keras.report.attention_video import write_attention
from har_keras.report.printing import NONE_OF_THESE
from har_keras.report.timeline_files import plot_timeline
from har_keras.terminal import printable

_NUM_TOP = 5
_LONGEST_QUEUE = 16
# Check for expired files every 10 minutes; files expire after an hour.
_DELETE_SECONDS = (600, 3600)


@dataclass(frozen=True)
class PageContent:
    """What the page shows about a video.

    Args:
        answer: str. The class, or "none of these".
        probabilities: dict from class name to float.
        note: str. The prediction in words.
        timeline: Path. Image of the timeline.
        attention: Path or None. Video of the attention heatmaps.
    """

    answer: str
    probabilities: dict[str, float]
    note: str
    timeline: Path
    attention: Path | None = None


@contextlib.contextmanager
def app(
    run: str,
    *,
    host: str = "127.0.0.1",
    port: int = 7860,
    max_megabytes: float = 200.0,
    max_seconds: float = 600.0,
) -> Iterator[str]:
    """Serves the page of a model while the context is open.

    Args:
        run: str. A run, an exported model, or the address of a server.
        host: str. Address to listen on. Defaults to `"127.0.0.1"`.
        port: int. Port of the page; 0 chooses a free one. Defaults to `7860`.
        max_megabytes: float. Maximum size of an uploaded file. Defaults to
            `200`.
        max_seconds: float. Maximum length of a video. Defaults to `600`.

    Yields:
        str. The address of the page.

    Raises:
        UsageError: If the port is taken.
        DataError: If the run doesn't exist or has no model.
        EnvironmentFault: If Gradio is not installed.
    """
    import_gradio()
    start_backend_of(run)
    classifier, limits = load(run), Limits(max_megabytes, max_seconds)
    config = classifier.config
    store = dataclasses.replace(config.store, timeout_seconds=max_seconds)
    classifier.config = dataclasses.replace(config, store=store)
    make = functools.partial(
        make_page,
        classifier,
        run,
        limits=limits,
        attention=kind_of(run) == "run" and config.model.model == "vit",
    )
    with served(make, host, port, limits) as address:
        yield address


def classify(
    classifier: Classifier,
    video: Path,
    folder: Path,
    *,
    limits: Limits,
    attention: bool,
) -> Iterator[PageContent]:
    """Classifies a video; yields the attention heatmaps, which are slow, last.

    Args:
        classifier: Classifier. The model.
        video: Path. The file.
        folder: Path. Folder for the written images and videos.
        limits: Limits. Limits of the video.
        attention: bool. Whether to compute attention heatmaps.

    Yields:
        A `PageContent` without attention, then one with it if requested.

    Raises:
        DataError: If the video can't be read, or exceeds the limits.
    """
    require_within(limits, video)
    found = classifier.predict(video, timeline=True)
    assert found.timeline is not None
    assert found.probabilities is not None
    image = folder / "timeline.png"
    # Narrow, so that the text is readable on a phone.
    plot_timeline(found.timeline, video.name, image, width_inches=5.2)
    content = PageContent(
        answer_of(found), found.probabilities, in_words(found), image
    )
    yield content
    if attention:
        fps = classifier.config.clip.fps
        movie, _ = write_attention(classifier, video, folder / "video", fps)
        yield dataclasses.replace(content, attention=movie)


def answer_of(found: Prediction) -> str:
    """Returns the answer in large letters: the class, or "none of these"."""
    return printable(found.label) if found.accepted else NONE_OF_THESE


def in_words(found: Prediction) -> str:
    """Returns a prediction as sentences, which its timeline bears out.

    Example:

    >>> in_words(Prediction("a", "walk", 0.4, {}, 3.0, accepted=False))
    'none of these, over 3.0 s. The nearest class is walk, with a confidence of
    40 %, which is too low to be accepted.'
    """
    name, share = printable(found.label), f"{100 * found.confidence:.0f} %"
    if found.accepted:
        note = f"{name}, with a confidence of {share}, over "
        note += f"{found.seconds:.1f} s."
    else:
        note = (
            f"{NONE_OF_THESE}, over {found.seconds:.1f} s. The nearest class "
            f"is {name}, with a confidence of {share}, which is too low to be "
            "accepted."
        )
    seconds: defaultdict[str, float] = defaultdict(float)
    for segment in found.segments:
        length = segment.end_seconds - segment.start_seconds
        shown = NONE_OF_THESE if segment.label == NONE else segment.label
        seconds[printable(shown)] += length
    if len(seconds) > 1:
        longest = sorted(seconds.items(), key=lambda x: -x[1])
        parts = [f"{x} for {n:.1f} s" for x, n in longest]
        note += f" In time: {', '.join(parts)}."
    if found.reason:
        note += f" Only part of the video was used: {found.reason}."
    return note


def make_page(
    classifier: Classifier, name: str, *, limits: Limits, attention: bool
) -> Any:
    """Builds the page, a `gradio.Blocks`.

    Args:
        classifier: Classifier. The model.
        name: str. Name of the model, for the title.
        limits: Limits. Limits of a video.
        attention: bool. Whether to show attention heatmaps.

    Raises:
        EnvironmentFault: If Gradio is not installed.
    """
    gradio = import_gradio()
    with gradio.Blocks(
        title=f"har_keras: {printable(name)}",
        analytics_enabled=False,
        delete_cache=_DELETE_SECONDS,
    ) as page:
        gradio.HTML(
            f"<h1>What does this video show?</h1><p>{_heading(classifier)} "
            f"Videos of {limits} are accepted, also in formats that the "
            "browser can't play; they are deleted after an hour.</p>"
        )
        with gradio.Row():
            with gradio.Column():
                video = gradio.Video(
                    label="Upload or record a video",
                    sources=["upload", "webcam"],
                    webcam_options=gradio.WebcamOptions(mirror=False),
                    include_audio=True,  # else Gradio re-encodes it with ffmpeg
                )
            with gradio.Column():
                label = gradio.Label(label="Classes", num_top_classes=_NUM_TOP)
                note = gradio.Textbox(label="In words", interactive=False)
        with gradio.Row():
            with gradio.Column():
                gradio.HTML("<h2>Timeline</h2>", elem_classes="heading")
                timeline = gradio.Image(
                    show_label=False,
                    alt_text="Class probabilities over time",
                    type="filepath",
                    format="png",
                    interactive=False,
                    buttons=[],
                )
            with gradio.Column(visible=attention):
                gradio.HTML(
                    "<h2>Attention: brighter is more</h2>",
                    elem_classes="heading",
                )
                movie = gradio.Video(
                    show_label=False,
                    interactive=False,
                    autoplay=True,
                    loop=True,
                    buttons=["download"],
                )
        video.change(
            _handler(gradio, classifier, limits, attention),
            inputs=video,
            outputs=[label, note, timeline, movie],
            api_visibility="private",
            concurrency_limit=1,
        )
    return page


def _heading(classifier: Classifier) -> str:
    names = [escape(printable(name)) for name in classifier.class_names]
    shown = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return f"The model knows {len(names)} classes: {shown}."


def _label_file(content: PageContent, folder: Path) -> str:
    """Writes an answer as Gradio reads one whose label is not a class.

    Given as a dict, its label would be the class with the largest share.
    """
    shares = sorted(content.probabilities.items(), key=lambda x: -x[1])
    label = {
        "label": content.answer,
        "confidences": [
            {"label": name, "confidence": share}
            for name, share in shares[:_NUM_TOP]
        ],
    }
    file = folder / "label.json"
    file.write_text(json.dumps(label), "utf-8")
    return str(file)


def _handler(
    gradio: Any, classifier: Classifier, limits: Limits, attention: bool
) -> Callable[[str | None], Iterator[tuple[Any, ...]]]:
    """Returns the handler of a new or removed video."""

    def handle(file: str | None) -> Iterator[tuple[Any, ...]]:
        yield None, None, None, None
        if file is None:
            return
        with TemporaryDirectory(prefix="har_keras-") as folder, _errors(gradio):
            for content in classify(
                classifier,
                Path(file),
                Path(folder),
                limits=limits,
                attention=attention,
            ):
                yield (
                    _label_file(content, Path(folder)),
                    content.note,
                    str(content.timeline),
                    str(content.attention) if content.attention else None,
                )

    return handle


@contextlib.contextmanager
def _errors(gradio: Any) -> Iterator[None]:
    """Shows the message of a `HarError` on the page."""
    try:
        yield
    except HarError as error:
        reason = getattr(error, "reason", None) or str(error).rstrip(".")
        raise gradio.Error(
            escape(f"This video can't be used: {printable(reason)}."),
            duration=None,
            print_exception=False,
        ) from error


@contextlib.contextmanager
def served(
    make: Callable[[], Any], host: str, port: int, limits: Limits
) -> Iterator[str]:
    """Serves a page while the context is open.

    Args:
        make: Callable. Builds the page, once its temporary folder exists.
        host: str. Address to listen on, such as 127.0.0.1.
        port: int. Port of the page; 0 chooses a free one.
        limits: Limits. Larger files are rejected during the upload.

    Yields:
        str. The address of the page.

    Raises:
        UsageError: If the port is taken.
    """
    # Uploads are deleted when the program ends.
    with TemporaryDirectory(prefix="har_keras-app-") as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        page = make()
        try:
            _, address, _ = page.queue(max_size=_LONGEST_QUEUE).launch(
                server_name=host,
                server_port=port or None,
                max_file_size=round(limits.max_megabytes * 1e6),
                **_launch_options(),
            )
        except OSError as error:
            raise UsageError(
                f"The page can't be served on {host}, port {port}: the port is "
                "taken, or the address is not this machine's. Choose others "
                "with --port and --host."
            ) from error
        try:
            yield str(address)
        finally:
            page.close(verbose=False)


def _launch_options() -> dict[str, Any]:
    """Returns launch options: no sharing, no telemetry, local fonts."""
    fonts = {"font": ("system-ui", "sans-serif"), "font_mono": ("monospace",)}
    return {
        "theme": import_gradio().themes.Base(**fonts),
        "css": _STYLE,
        "footer_links": [],
        "prevent_thread_lock": True,
        "share": False,
        "quiet": True,
        "ssr_mode": False,
        "enable_monitoring": False,
    }


# Hides the trim buttons, which would load code from the network.
_STYLE = """
[aria-label="Trim video to selection"],
[aria-label="Reset video to initial value"] { display: none; }
h1 { font-size: 1.6rem; font-weight: 700; margin: 0; }
.heading h2 { font-size: 1rem; font-weight: 600; margin: .5rem 0 0; }
"""


def import_gradio() -> Any:
    """Imports Gradio with its telemetry disabled.

    Raises:
        EnvironmentFault: If it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        return importlib.import_module("gradio")
    except ImportError as error:
        raise EnvironmentFault(
            "The page requires the package gradio. Install it: "
            'pip install "har_keras[app]".'
        ) from error

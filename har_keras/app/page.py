"""A page in the browser: a video in; its classes, timeline and attention out.

Made of Gradio's own parts, which are imported when the page is made: they
come with the extra `[app]`.
"""

import contextlib
import importlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from har_keras.errors import DataError, EnvironmentFault, HarError, UsageError
from har_keras.inference.classifier import Classifier
from har_keras.inference.timeline import TimelineConfig
from har_keras.report.attention_video import write_attention
from har_keras.report.printing import printable
from har_keras.report.timeline_files import plot_timeline
from har_keras.video.ffmpeg import probe

_NUM_TOP = 5
_LONGEST_QUEUE = 16
# Files of the page go after an hour, looked for every ten minutes.
_DELETE_SECONDS = (600, 3600)


@dataclass(frozen=True)
class Limits:
    """What may be sent to the page.

    Args:
        max_megabytes: float. Size of a file.
        max_seconds: float. Length of a video.
    """

    max_megabytes: float = 200.0
    max_seconds: float = 600.0

    def __str__(self) -> str:
        return (
            f"up to {self.max_megabytes:g} MB and {self.max_seconds:g} seconds"
        )


@dataclass(frozen=True)
class Shown:
    """What the page shows of a video.

    Args:
        probabilities: dict from class to float.
        note: str. What to know of the answer, in a sentence or two.
        timeline: Path. Picture of what is seen when.
        attention: Path or None. Video of where the model looked.
    """

    probabilities: dict[str, float]
    note: str
    timeline: Path
    attention: Path | None = None


def look(
    classifier: Classifier,
    video: Path,
    folder: Path,
    *,
    limits: Limits,
    attention: bool,
) -> Iterator[Shown]:
    """Answers about a video, and says more as it finds out more.

    Args:
        classifier: Classifier. As `load` returns it.
        video: Path. The file.
        folder: Path. Where pictures are written.
        limits: Limits. Those of the video.
        attention: bool. Whether to show where the model looked, too.

    Yields:
        A `Shown` without attention, and then, if asked for, one with it.

    Raises:
        DataError: If the video can't be read, or is too large or long.
    """
    require_within(limits, video)
    found = classifier.predict(video, timeline=TimelineConfig())
    assert found.timeline is not None
    assert found.probabilities is not None
    picture = folder / "timeline.png"
    # Narrow, so that its letters can be read on a phone.
    plot_timeline(found.timeline, video.name, picture, width_inches=5.2)
    note = (
        f"{printable(found.label)}, with a confidence of "
        f"{100 * found.confidence:.0f} %, over {found.seconds:.1f} s."
    )
    if found.reason:
        note += f" The video was used in part: {found.reason}."
    shown = Shown(found.probabilities, note, picture)
    yield shown
    if attention:
        fps = classifier.config.clip.fps
        movie, _ = write_attention(classifier, video, folder / "video", fps)
        yield Shown(shown.probabilities, shown.note, picture, movie)


def require_within(limits: Limits, video: Path) -> None:
    """Raises `DataError` if a video is too large, too long, or is none.

    A file that doesn't say how long it is, as browsers record them, is let
    through: reading has a limit in time.
    """
    megabytes = video.stat().st_size / 1e6
    seconds = probe(video).duration_seconds or 0.0
    if megabytes > limits.max_megabytes or seconds > limits.max_seconds:
        raise DataError(
            f"A video may have {limits}. This one has {megabytes:.0f} MB and "
            f"{seconds:.0f} seconds."
        )


def make_page(
    classifier: Classifier, name: str, *, limits: Limits, attention: bool
) -> Any:
    """Returns the page, a `gradio.Blocks`.

    Args:
        classifier: Classifier. As `load` returns it.
        name: str. What answers, for the heading.
        limits: Limits. Those of a video.
        attention: bool. Whether to show where the model looked.

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
            f"A video may have {limits}; it is deleted after an hour. One "
            "that the browser can't play is answered all the same.</p>"
        )
        with gradio.Row():
            with gradio.Column():
                video = gradio.Video(
                    label="Drop or record a video",
                    sources=["upload", "webcam"],
                    webcam_options=gradio.WebcamOptions(mirror=False),
                    include_audio=True,  # else another ffmpeg would open it
                )
            with gradio.Column():
                label = gradio.Label(label="Classes", num_top_classes=_NUM_TOP)
                note = gradio.Textbox(label="In words", interactive=False)
        with gradio.Row():
            with gradio.Column():
                gradio.HTML("<h2>When</h2>", elem_classes="heading")
                timeline = gradio.Image(
                    show_label=False,
                    alt_text="Each class's probability over time",
                    type="filepath",
                    format="png",
                    interactive=False,
                    buttons=[],
                )
            with gradio.Column(visible=attention):
                gradio.HTML(
                    "<h2>Where it looked: brighter is more</h2>",
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
            _answerer(gradio, classifier, limits, attention),
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


def _answerer(
    gradio: Any, classifier: Classifier, limits: Limits, attention: bool
) -> Callable[[str | None], Iterator[tuple[Any, ...]]]:
    """Returns what the page calls when there is a video, or none any more."""

    def answer(file: str | None) -> Iterator[tuple[Any, ...]]:
        yield None, None, None, None
        if file is None:
            return
        with TemporaryDirectory(prefix="har_keras-") as folder, _said(gradio):
            for shown in look(
                classifier,
                Path(file),
                Path(folder),
                limits=limits,
                attention=attention,
            ):
                yield (
                    shown.probabilities,
                    shown.note,
                    str(shown.timeline),
                    str(shown.attention) if shown.attention else None,
                )

    return answer


@contextlib.contextmanager
def _said(gradio: Any) -> Iterator[None]:
    """Shows an error for people on the page, as the sentence that it is."""
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
    """Serves a page, to this machine alone unless `host` says otherwise.

    Args:
        make: Callable. Makes the page; called when there is a folder for it.
        host: str. Address to listen on, such as 127.0.0.1.
        port: int. Its port; 0 takes a free one.
        limits: Limits. Larger files are refused while they arrive.

    Yields:
        The page's address.

    Raises:
        UsageError: If the port is taken.
    """
    # What was sent goes with the program.
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
                "taken, or the name is not this machine's. Choose others with "
                "--port and --host."
            ) from error
        try:
            yield str(address)
        finally:
            page.close(verbose=False)


def _launch_options() -> dict[str, Any]:
    """Returns how a page is launched: for itself, with its own fonts."""
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


# Trimming would load a program from the network.
_STYLE = """
[aria-label="Trim video to selection"],
[aria-label="Reset video to initial value"] { display: none; }
h1 { font-size: 1.6rem; font-weight: 700; margin: 0; }
.heading h2 { font-size: 1rem; font-weight: 600; margin: .5rem 0 0; }
"""


def import_gradio() -> Any:
    """Returns the package, without its calls home.

    Raises:
        EnvironmentFault: If it is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        return importlib.import_module("gradio")
    except ImportError as error:
        raise EnvironmentFault(
            "The page needs the package gradio. Install it with: "
            'pip install "har_keras[app]".'
        ) from error

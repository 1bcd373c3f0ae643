"""Shows reports and videos in the output of a notebook's cell."""

import base64
import html
import itertools
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from har_keras.errors import DataError
from har_keras.evaluation.result import Evaluation
from har_keras.video.ffmpeg import read_frames
from har_keras.video.writer import encode_mp4

_FPS, _SHORT_SIDE = 10.0, 120
_TIMEOUT_SECONDS = 60.0


def show_report(
    report: Evaluation | Path | str, *, height_pixels: int = 640
) -> None:
    """Shows a report in the notebook.

    Args:
        report: Evaluation, Path or str. An evaluation, or the HTML file of
            another page, as `check` and `compare` write them.
        height_pixels: int. Of the frame, which scrolls. Defaults to `640`.

    Raises:
        DataError: If there is no such file.
    """
    path = report.report if isinstance(report, Evaluation) else Path(report)
    try:
        page = path.read_text("utf-8")
    except OSError as error:
        raise DataError(
            f"The report '{path}' can't be read: {error.strerror}."
        ) from error
    # No scripts, and nothing of the notebook's own page.
    frame = (
        f'<iframe sandbox srcdoc="{html.escape(page)}" width="100%" '
        f'height="{height_pixels}" style="border: 1px solid #8888"></iframe>'
    )
    _show(frame, f"The report {path}, {len(page) / 1e6:.1f} MB.")


def show_videos(
    videos: Mapping[Path | str, str] | Iterable[Path | str],
    *,
    seconds: float = 3.0,
) -> None:
    """Shows the beginnings of videos side by side; they play by themselves.

    Args:
        videos: Mapping from a path to its caption, or an iterable of paths,
            whose folder and name are the captions.
        seconds: float. How much of each is shown. Defaults to `3.0`.

    Raises:
        DataError: If one can't be decoded.
    """
    named = (
        videos
        if isinstance(videos, Mapping)
        else {video: "/".join(Path(video).parts[-2:]) for video in videos}
    )
    cells = [
        _cell(encode_mp4(_beginning(Path(video), seconds), _FPS), caption)
        for video, caption in named.items()
    ]
    _show(
        '<div style="display: flex; flex-wrap: wrap; gap: 12px">'
        f"{''.join(cells)}</div>",
        f"Videos: {', '.join(named.values())}.",
    )


def picture(jpeg: bytes, caption: str) -> str:
    """Returns a JPEG above its caption, as HTML."""
    source = f'<img src="data:image/jpeg;base64,{_text(jpeg)}" alt="">'
    return _figure(source, caption)


def _beginning(path: Path, seconds: float) -> np.ndarray:
    with read_frames(
        path,
        fps=_FPS,
        short_side=_SHORT_SIDE,
        timeout_seconds=_TIMEOUT_SECONDS,
    ) as reader:
        return np.stack([*itertools.islice(reader, round(seconds * _FPS))])


def _cell(mp4: bytes, caption: str) -> str:
    source = f"data:video/mp4;base64,{_text(mp4)}"
    return _figure(
        f'<video src="{source}" autoplay loop muted playsinline controls '
        f'height="{_SHORT_SIDE}" aria-label="{html.escape(caption)}"></video>',
        caption,
    )


def _figure(content: str, caption: str) -> str:
    return (
        f'<figure style="margin: 0">{content}<figcaption style="font-size: '
        f'85%">{html.escape(caption)}</figcaption></figure>'
    )


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def _show(content: str, plain: str) -> None:
    from IPython.display import display

    display({"text/html": content, "text/plain": plain}, raw=True)

"""A live camera in a notebook: that of the browser, or a video in its place."""

from __future__ import annotations

import base64
import importlib.resources
import itertools
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from har_keras.config import ClipConfig, Config
from har_keras.notebook.display import picture
from har_keras.notebook.places import in_colab
from har_keras.video.ffmpeg import read_frames

if TYPE_CHECKING:
    from har_keras.inference.classifier import Prediction

_HOP_SECONDS = 1.0
_TIMEOUT_SECONDS = 60.0
_MOST_PICTURES, _PICTURE_HEIGHT = 8, 96


class Watcher(Protocol):
    """What is needed of a `VideoClassifier`."""

    @property
    def config(self) -> Config: ...

    def watch(
        self, source: str | Iterable[np.ndarray]
    ) -> Iterator[Prediction]: ...


def watch_camera(
    classifier: Watcher,
    *,
    stand_in: Path | str,
    max_seconds: float = 20.0,
) -> list[Prediction]:
    """Classifies what a camera sees, once a second, and shows it.

    In Colab it is the camera of the browser, which asks for permission. Where
    there is none, a video plays its part, and that is said.

    Args:
        classifier: VideoClassifier. The model.
        stand_in: Path or str. The video that plays its part.
        max_seconds: float. When to stop; there is a button, too. Defaults to
            `20.0`.

    Returns:
        list of Prediction, one a second; as `VideoClassifier.watch`.

    Raises:
        DataError: If the video is needed and can't be decoded.
    """
    clip = classifier.config.clip
    source = _browser(clip) or _Video(Path(stand_in), clip)
    found, pictures = [], []
    try:
        for prediction in classifier.watch(source.clips(max_seconds)):
            source.words = _words(prediction)
            found.append(prediction)
            pictures.append((source.newest, source.words))
            source.show()
    finally:
        source.close()
    _show_some(pictures)
    return found


class _Source:
    """Gives the newest frames of a camera, and shows what they are."""

    words = ""

    def __init__(self, clip: ClipConfig) -> None:
        self.clip = clip
        self.hop = max(1, round(_HOP_SECONDS * clip.fps))
        self.frames: deque[np.ndarray] = deque(maxlen=clip.num_frames)

    @property
    def newest(self) -> np.ndarray:
        """The newest frame."""
        return self.frames[-1]

    def clips(self, max_seconds: float) -> Iterator[np.ndarray]:
        """Yields the newest frames, as many as a clip has, once a second."""
        raise NotImplementedError

    def show(self) -> None:
        """Shows the newest frame and the words about it."""

    def close(self) -> None:
        """Ends it."""


class _Browser(_Source):
    """The camera of the browser, by the JavaScript of Colab."""

    def __init__(self, clip: ClipConfig, run: Any) -> None:
        super().__init__(clip)
        self._run = run
        values = (clip.fps, clip.short_side, clip.num_frames)
        run(f"harCamera.start({', '.join(map(json.dumps, values))})")

    def clips(self, max_seconds: float) -> Iterator[np.ndarray]:
        number, end = 0, time.monotonic() + max_seconds
        due = self.clip.num_frames
        while time.monotonic() < end:
            found = self._run(
                f"harCamera.next({due}, {number}, {json.dumps(self.words)})"
            )
            if found["stopped"]:
                return
            number, due = found["number"], found["number"] + self.hop
            self.frames += map(_decoded, found["frames"])
            yield np.stack([*self.frames])

    def close(self) -> None:
        self._run("harCamera.stop()")


class _Video(_Source):
    """A video that plays the part of a camera, as fast as one."""

    def __init__(self, path: Path, clip: ClipConfig) -> None:
        super().__init__(clip)
        print(f"There is no camera here: the video {path} plays its part.")
        self.path = path
        self._handle: Any = None

    def clips(self, max_seconds: float) -> Iterator[np.ndarray]:
        began, clip = time.monotonic(), self.clip
        with read_frames(
            self.path,
            fps=clip.fps,
            short_side=clip.short_side,
            timeout_seconds=_TIMEOUT_SECONDS,
        ) as reader:
            some = itertools.islice(reader, round(max_seconds * clip.fps))
            for number, frame in enumerate(some, 1):
                self.frames.append(frame)
                if number < clip.num_frames or number % self.hop:
                    continue
                time.sleep(
                    max(0.0, began + number / clip.fps - time.monotonic())
                )
                yield np.stack([*self.frames])
        if self.frames and len(self.frames) < clip.num_frames:
            yield np.stack([*self.frames])

    def show(self) -> None:
        from IPython.display import display

        bundle = {
            "text/html": picture(_jpeg(self.newest, 240), self.words),
            "text/plain": self.words,
        }
        if self._handle is None:
            self._handle = display(bundle, raw=True, display_id=True)
        else:
            self._handle.update(bundle, raw=True)

    def close(self) -> None:
        if self._handle:  # the pictures that follow show it
            self._handle.update({"text/plain": ""}, raw=True)


def _browser(clip: ClipConfig) -> _Source | None:
    """Returns the browser's camera; None, said, if it can't be used."""
    if not in_colab():
        return None
    from google.colab import output
    from IPython.display import Javascript, display

    script = importlib.resources.files("har_keras.notebook") / "camera.js"
    display(Javascript(script.read_text("utf-8")))
    try:
        return _Browser(clip, output.eval_js)
    except Exception as error:  # of Colab's own kind: refused, or none there
        print(f"The browser gives no camera: {error}")
        return None


def _words(prediction: Prediction) -> str:
    if not prediction.accepted:
        return "none of these"
    return f"{prediction.label}, {prediction.confidence:.0%}"


def _show_some(pictures: list[tuple[np.ndarray, str]]) -> None:
    """Shows some of the moments with what was said of them."""
    from IPython.display import display

    places = np.linspace(
        0, len(pictures) - 1, min(_MOST_PICTURES, len(pictures))
    )
    chosen = [pictures[round(place)] for place in places]
    shown = "".join(
        picture(_jpeg(frame, _PICTURE_HEIGHT), words) for frame, words in chosen
    )
    bundle = {
        "text/html": '<div style="display: flex; flex-wrap: wrap; gap: 12px">'
        f"{shown}</div>",
        "text/plain": "; ".join(words for _, words in chosen),
    }
    display(bundle, raw=True)


def _jpeg(frame: np.ndarray, height: int) -> bytes:
    import cv2

    width = round(frame.shape[1] * height / frame.shape[0])
    small = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    return bytes(cv2.imencode(".jpg", small[..., ::-1])[1])


def _decoded(jpeg: str) -> np.ndarray:
    import cv2

    data = np.frombuffer(base64.b64decode(jpeg), np.uint8)
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))[..., ::-1]

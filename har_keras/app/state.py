"""What the requests of the page share: the model, and who has its turn."""

import contextlib
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from har_keras.app.jobs import LIVE_OPTIONS
from har_keras.errors import DataError
from har_keras.inference.classifier import Classifier
from har_keras.inference.distance import answer_on_batch
from har_keras.inference.limits import Limits
from har_keras.inference.live import LiveLabels
from har_keras.web.refusal import Refusal
from har_keras.web.uploads import UploadFolder

_MAX_CAMERAS = 16
_RETRY_SECONDS = 5
# Of a frame of a camera: 480 lines in good quality have a fifth.
_MAX_FRAME_BYTES = 2**19


@dataclass
class AppState:
    """The page: its model, limits and the requests under way.

    Numbers are changed by the thread of the event loop only.

    Args:
        classifier: Classifier. The model, called by one thread at a time.
        name: str. Name of the model.
        limits: Limits. Of a video.
        attention: bool. Whether the model can show what it looks at.
        max_waiting: int. Videos that may wait for the one under way.
        uploads: UploadFolder. Where videos are while they are classified.
    """

    classifier: Classifier
    name: str
    limits: Limits
    attention: bool
    max_waiting: int
    uploads: UploadFolder = field(default_factory=lambda: UploadFolder("app"))
    num_videos: int = 0
    has_clip: bool = False
    video_pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, "video")
    )
    live_pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, "camera")
    )
    cameras: OrderedDict[str, LiveLabels] = field(default_factory=OrderedDict)
    example: bytes = b""
    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.classifier.model = OneAtATime(self.classifier.model)

    @property
    def max_clip_bytes(self) -> int:
        """Most bytes of the frames of a clip."""
        return self.classifier.config.clip.num_frames * (_MAX_FRAME_BYTES + 4)

    @contextlib.contextmanager
    def video(self) -> Iterator[int]:
        """Yields how many videos come before a new one.

        Raises:
            Refusal: If too many wait already.
        """
        if self.num_videos > self.max_waiting:
            raise Refusal(
                429,
                f"{self.num_videos} videos are being classified already. Try "
                "again in a moment.",
                reason="queue_full",
                retry_seconds=_RETRY_SECONDS,
            )
        self.num_videos += 1
        try:
            yield self.num_videos - 1
        finally:
            self.num_videos -= 1

    @contextlib.contextmanager
    def clip(self) -> Iterator[None]:
        """Has the model for a clip of a camera, which never waits.

        Raises:
            Refusal: If another clip is being classified.
        """
        if self.has_clip:
            raise Refusal(
                429,
                "The model is busy with another clip.",
                reason="busy",
                retry_seconds=1,
            )
        self.has_clip = True
        try:
            yield
        finally:
            self.has_clip = False

    def camera(self, session: str) -> LiveLabels:
        """Returns the labels of a camera so far; the oldest are forgotten.

        Raises:
            Refusal: If it is no name of a camera.
        """
        if not re.fullmatch(r"[0-9A-Za-z-]{1,64}", session):
            raise Refusal(400, "The camera has no name, such as 'session=1'.")
        if session not in self.cameras:
            self.cameras[session] = LiveLabels(
                self.classifier, "camera", LIVE_OPTIONS
            )
        self.cameras.move_to_end(session)
        while len(self.cameras) > _MAX_CAMERAS:
            self.cameras.popitem(last=False)
        return self.cameras[session]

    def warm_up(self) -> None:
        """Has the model compiled before the first video comes."""
        clip = self.classifier.config.clip
        size = clip.crop_size
        clips = np.zeros((1, clip.num_frames, size, size, 3), np.uint8)
        answer_on_batch(self.classifier.model, clips)

    def close(self) -> None:
        """Ends the threads and removes the uploads."""
        self.stopped.set()
        self.video_pool.shutdown(cancel_futures=True)
        self.live_pool.shutdown(cancel_futures=True)
        self.uploads.close()


class OneAtATime:
    """A model that is called by one thread at a time, a batch each.

    Args:
        model: `keras.Model`, or what was exported.

    Attributes:
        turn: Lock. Whose turn it is.
    """

    def __init__(self, model: Any) -> None:
        self.wrapped = model
        self.turn = threading.Lock()

    def predict_on_batch(self, clips: np.ndarray) -> Any:
        """Returns the probabilities of clips."""
        with self.turn:
            return self.wrapped.predict_on_batch(clips)

    def answer_on_batch(self, clips: np.ndarray) -> np.ndarray:
        """Returns the probabilities and distances of clips."""
        with self.turn:
            return answer_on_batch(self.wrapped, clips)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.wrapped, name)


def frames_of(body: bytes) -> list[bytes]:
    r"""Returns the frames of a body: each after its length, four bytes.

    Raises:
        DataError: If it ends in the middle of one.

    Example:

    >>> frames_of(b"\x00\x00\x00\x02ab")
    [b'ab']
    """
    found, place = [], 0
    while place < len(body):
        length = int.from_bytes(body[place : place + 4], "big")
        found.append(body[place + 4 : place + 4 + length])
        place += 4 + length
    if place != len(body) or not found:
        raise DataError("Frames must be sent whole, each after its length.")
    return found

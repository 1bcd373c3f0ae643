"""When each frame that ffmpeg writes is shown, and how large it is."""

import math
import re
import threading
from collections import deque
from dataclasses import dataclass

from har_keras.video.commands import FrameOutput

_PRINTED = re.compile(r"\[info\] (\d+)\.([12])(\d{5})$")
_SIZE = re.compile(
    r"^\[Parsed_scale_\d+ @ \w+\] \[verbose\] w:\d+ h:\d+ .*"
    r"-> w:(\d+) h:(\d+) "
)
_NEW_GRAPH = "Reconfiguring filter graph"


@dataclass
class Announced:
    """A frame that ffmpeg is about to write.

    Args:
        tick: int. The first frame of the output that shows it.
        size: pair of int. Width and height in pixels.
        lost: bool. Whether it is not written after all, for the next one has
            another size. The frame before it stays on show.
    """

    tick: int
    size: tuple[int, int]
    lost: bool = False


class FrameClock:
    """Reads in ffmpeg's log what `FrameOutput` makes it print.

    One thread adds lines, another asks for frames.

    Args:
        output: FrameOutput. What ffmpeg was started with.
    """

    def __init__(self, output: FrameOutput) -> None:
        self._output = output
        self._frames: deque[Announced] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._size: tuple[int, int] | None = None
        self._first_start: float | None = None
        self._base = self._last = 0

    def add(self, line: str) -> bool:
        """Reads a line of the log; returns whether it is about a frame."""
        # Most lines are neither, so they are looked at briefly.
        if line[-7:-6] == "." and (match := _PRINTED.search(line)):
            if int(match[3]) != self._output.secret:
                return False
            number = int(match[1])
            if match[2] == "1":
                self._start(number / 1000)
            elif self._size:
                self._announce(self._base + number, self._size)
            return True
        if "-> w:" in line and (match := _SIZE.match(line)):
            self._size = int(match[1]), int(match[2])
        elif _NEW_GRAPH in line and "[info]" in line:
            self._lose()
        return False

    def close(self) -> None:
        """Tells that the log has ended."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def next(self) -> Announced | None:
        """Waits for the next frame that was announced, None at the end."""
        # A thinned frame is written once the next one is known, if ever.
        ready = 2 if self._output.thinned else 1
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    self._closed
                    or len(self._frames) >= ready
                    or (self._frames and self._frames[0].lost)
                )
            )
            return self._frames[0] if self._frames else None

    def shown_until(self) -> int:
        """Waits for the tick at which the frame of `next` is shown no more.

        The next call of `next` is for the frame after it.
        """
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or len(self._frames) > 1
            )
            frame = self._frames.popleft()
            return self._frames[0].tick if self._frames else frame.tick + 1

    def _start(self, seconds: float) -> None:
        """Begins a graph; its ticks are counted from its own first frame."""
        if self._first_start is None:
            self._first_start = seconds
        since = (seconds - self._first_start) * self._output.fps
        # Milliseconds were rounded down.
        self._base = max(self._last, math.ceil(since - 0.1))

    def _announce(self, tick: int, size: tuple[int, int]) -> None:
        with self._changed:
            self._last = max(tick, self._last)
            self._frames.append(Announced(self._last, size))
            self._changed.notify_all()

    def _lose(self) -> None:
        with self._changed:
            if self._output.thinned and self._frames:
                self._frames[-1].lost = True
                self._changed.notify_all()

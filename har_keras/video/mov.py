"""Whether a track of an MP4 or MOV file is shown mirrored.

ffmpeg applies the whole display matrix, but tells its rotation only, which for
a mirrored one is another angle.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from har_keras.files import open_regular

# No file has more boxes beside each other before its tracks.
_MOST_BOXES = 4096
_MATRIX_BYTES = 36


def is_mirrored(path: Path, track: int) -> bool:
    """Returns whether the display matrix of a track mirrors.

    Args:
        path: Path. An MP4 or MOV file; of any other, the answer is False.
        track: int. Its index among the tracks, as ffmpeg counts streams.

    Returns:
        bool. Whether the determinant of the matrix is negative.
    """
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            for moov in _boxes(file, 0, size, b"moov"):
                tracks = [*_boxes(file, *moov, b"trak")]
                for header in _boxes(file, *tracks[track], b"tkhd"):
                    return _determinant(file, *header) < 0
    except (OSError, IndexError, struct.error):
        pass  # another format, or damaged: ffmpeg says what is wrong with it
    return False


def _boxes(
    file: BinaryIO, begin: int, end: int, kind: bytes
) -> Iterator[tuple[int, int]]:
    """Yields where the content of each box of a kind begins and ends."""
    for _ in range(_MOST_BOXES):
        if begin + 8 > end:
            return
        file.seek(begin)
        size, found = struct.unpack(">I4s", file.read(8))
        content = begin + 8
        if size == 1:  # the size is too large for four bytes
            (size,) = struct.unpack(">Q", file.read(8))
            content += 8
        last = begin + size if size else end
        if last < content or last > end:
            return
        if found == kind:
            yield content, last
        begin = last


def _determinant(file: BinaryIO, begin: int, end: int) -> int:
    file.seek(begin)
    version = file.read(1)
    file.seek(begin + (52 if version == b"\x01" else 40))
    a, b, _, c, d, *_ = struct.unpack(">9i", file.read(_MATRIX_BYTES))
    return int(a * d - b * c)

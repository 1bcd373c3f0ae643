"""Throughput of input pipelines, in clips per second of CPU time.

CPU time, child processes included, is comparable even on a machine with other
load. Pipelines are measured in interleaved rounds and compared by the median of
the ratios per round.
"""

import contextlib
import dataclasses
import functools
import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from har_keras.clips.augment import FrameSource, augment_clip
from har_keras.clips.dataset import ClipDataset
from har_keras.clips.sampling import clip_frame_indices, last_start
from har_keras.config import (
    FRAME_STRIDE,
    ClipConfig,
    Config,
    Form,
    StoreConfig,
)
from har_keras.environment import num_cores
from har_keras.errors import EnvironmentFault
from har_keras.files import temporary_prefix
from har_keras.manifest.manifest import Manifest, Video
from har_keras.processes import last_word, run
from har_keras.store.preparation import decode_all
from har_keras.store.store import LazyFrames, Store, decode_jpeg
from har_keras.video.commands import ffmpeg_binary

_CLIPS_A_ROUND = 320
_DIRECT_CLIPS_A_ROUND = 16
_FFMPEG_SECONDS = 600.0
# Never exhausted; a round reads one epoch.
_EPOCHS = 10**6
# Time for batches that are read ahead to complete, so that they count.
_SETTLING_SECONDS = 0.3

LEVELS = ("none", "light", "strong")
"""Augmentations that are measured in addition to the configured one."""


@dataclasses.dataclass(frozen=True)
class ReadCost:
    """CPU and wall-clock time of a function.

    Args:
        cpu_seconds: float. CPU time, child processes included.
        wall_seconds: float. Wall-clock time.
    """

    cpu_seconds: float
    wall_seconds: float

    @property
    def cores(self) -> float:
        """Average number of busy cores."""
        return self.cpu_seconds / self.wall_seconds


def cost(work: Callable[[], object]) -> ReadCost:
    """Calls a function and returns its cost."""
    cpu, wall = _cpu(), time.perf_counter()
    work()
    return ReadCost(_cpu() - cpu, time.perf_counter() - wall)


def _cpu() -> float:
    times = os.times()
    # Child times have a resolution of 0.01 s, enough for whole programs.
    return time.process_time() + times.children_user + times.children_system


def draw_benchmark_videos(root: Path, *, per_class: int = 3) -> Path:
    """Generates videos of ten seconds, 320 x 240 pixels and 25 frames/s.

    Noise gives them the bit rate of camera footage; they have a key frame every
    ten seconds, the default of x264.

    Args:
        root: Path. Folder to write to, in class folders.
        per_class: int. Videos in each of two classes. Defaults to `3`.

    Returns:
        Path. `root`.
    """
    for name in ("a", "b"):
        for number in range(per_class):
            path = root / name / f"{name}{number}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            pattern = (
                "testsrc2=size=320x240:rate=25:duration=10,"
                f"noise=alls=8:allf=t:all_seed={number + ord(name)},"
                f"hue=h={60 * number}"
            )
            _run_ffmpeg(
                *("-f", "lavfi", "-i", pattern, "-c:v", "libx264", "-g", "250"),
                *("-pix_fmt", "yuv420p", str(path)),
            )
    return root


def measure_reading(
    videos: Path, config: Config, *, rounds: int
) -> dict[str, list[float]]:
    """Measures pipelines from a video to a training clip.

    Args:
        videos: Path. A folder of videos.
        config: Config. The sections `clip` and `training` are used.
        rounds: int. Measurements of each pipeline.

    Returns:
        dict from pipeline to clips per CPU second in each round. All yield
        `uint8` clips; "augmented" ones are cropped and color-jittered.
    """
    with contextlib.ExitStack() as stack:
        manifest = Manifest.from_folder(videos)
        stores: dict[Form, Store] = {}
        for form in ("jpeg", "raw"):
            folder = Path(
                stack.enter_context(
                    tempfile.TemporaryDirectory(prefix=temporary_prefix())
                )
            )
            options = StoreConfig(form, folder)
            stores[form], manifest = decode_all(manifest, config.clip, options)
        pipelines = _pipelines(manifest, stores, config)
        found: dict[str, list[float]] = {name: [] for name in pipelines}
        for _ in range(rounds + 1):
            for name, (number, read) in pipelines.items():
                found[name].append(number / cost(read).cpu_seconds)
    # The first round warms up caches and libraries.
    return {name: rates[1:] for name, rates in found.items()}


def _pipelines(
    manifest: Manifest, stores: dict[Form, Store], config: Config
) -> dict[str, tuple[int, Callable[[], object]]]:
    """Returns the pipelines: number of clips per call, and the function."""
    usable = [video for video in manifest.videos if video.kept_frames]
    rng = np.random.default_rng(0)
    pipelines: dict[str, tuple[int, Callable[[], object]]] = {}

    def repeat(number: int, read: Callable[[], Any]) -> Callable[[], object]:
        return lambda: [read() for _ in range(number)]

    def add(name: str, number: int, read: Callable[[], Any]) -> None:
        pipelines[name] = number, repeat(number, read)

    def augmented(read: Callable[[], FrameSource]) -> Callable[[], Any]:
        size = config.clip.crop_size
        return lambda: augment_clip(read(), rng, crop_size=size)

    def lazy(store: Store) -> LazyFrames:
        video, indices = _choose(usable, config.clip, rng)
        return store.lazy_frames(video.key, indices)

    def direct() -> np.ndarray:
        video = usable[int(rng.integers(len(usable)))]
        return direct_clip(manifest.path(video), config.clip, rng)

    add("direct decode, augmented", _DIRECT_CLIPS_A_ROUND, augmented(direct))
    for form, store in stores.items():
        read = _reader(store, usable, config.clip, rng)
        if form == "jpeg":
            clips = itertools.cycle(
                [
                    _jpeg_data(store, *_choose(usable, config.clip, rng))
                    for _ in range(_CLIPS_A_ROUND)
                ]
            )
            decode = functools.partial(_decode_next, clips)
            add("decode of JPEG alone", _CLIPS_A_ROUND, decode)
        add(f"{form} store", _CLIPS_A_ROUND, read)
        read_lazily = functools.partial(lazy, store)
        add(f"{form} store, augmented", _CLIPS_A_ROUND, augmented(read_lazily))
        pipelines[f"{form} store, augmented, in batches"] = _batches(
            store, manifest, usable, config
        )
    for level in LEVELS:
        pipelines[f"jpeg store, {level}, in batches"] = _batches(
            stores["jpeg"],
            manifest,
            usable,
            config.replace(**config.flat() | {"augment": level}),
        )
    return pipelines


def _decode_next(clips: Iterator[Sequence[NDArray[np.uint8]]]) -> None:
    for data in next(clips):
        decode_jpeg(data)


def _reader(
    store: Store,
    videos: Sequence[Video],
    clip: ClipConfig,
    rng: np.random.Generator,
) -> Callable[[], np.ndarray]:
    """Returns a function that reads a random clip of a random video."""

    def read() -> np.ndarray:
        video, indices = _choose(videos, clip, rng)
        return store.frames(video.key, indices)

    return read


def _choose(
    videos: Sequence[Video], clip: ClipConfig, rng: np.random.Generator
) -> tuple[Video, NDArray[np.int64]]:
    """Returns a random video and the frame indices of a random clip."""
    video = videos[int(rng.integers(len(videos)))]
    options: dict[str, Any] = {
        "num_frames": clip.num_frames,
        "frame_stride": FRAME_STRIDE,
    }
    last = last_start(video.kept_frames, **options)
    start = float(rng.integers(last + 1))
    return video, clip_frame_indices(video.kept_frames, start=start, **options)


def _jpeg_data(
    store: Store, video: Video, indices: NDArray[np.int64]
) -> list[NDArray[np.uint8]]:
    """Returns the encoded frames of a clip, in memory."""
    stored = store.video(video.sha256)
    assert stored.shard is not None
    shard = np.fromfile(stored.shard, np.uint8)
    indices = indices + video.first_frame
    places = zip(stored.offsets[indices], stored.sizes[indices], strict=True)
    return [shard[begin : begin + size].copy() for begin, size in places]


def _batches(
    store: Store, manifest: Manifest, videos: Sequence[Video], config: Config
) -> tuple[int, Callable[[], object]]:
    """Returns the number of clips in an epoch, and a function that reads it.

    The pipeline is built once, as in training.
    """
    per_video = -(-_CLIPS_A_ROUND // len(videos))
    changes = {"batch_size": 16, "clips_per_video": per_video, "repeats": 1}
    options = config.replace(**config.flat() | changes)
    clips = ClipDataset(store, manifest, videos, options, training=True)
    batches = iter(clips.batches(epochs=_EPOCHS))

    def read() -> None:
        for _ in range(clips.steps_per_epoch):
            next(batches)
        time.sleep(_SETTLING_SECONDS)

    return clips.num_clips, read


def direct_clip(
    path: Path, clip: ClipConfig, rng: np.random.Generator
) -> np.ndarray:
    """Decodes a random clip directly from a file, without a store.

    OpenCV decodes in the process, with the same library as ffmpeg; it is as
    fast as PyAV and decord.

    Args:
        path: Path. The file.
        clip: ClipConfig. Number, rate and size of frames.
        rng: numpy `Generator`.

    Returns:
        `uint8` array of shape `(T, H, W, 3)`.
    """
    capture = cv2.VideoCapture(str(path))
    number = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    stride = max(1, round(capture.get(cv2.CAP_PROP_FPS) / clip.fps))
    span = stride * (clip.num_frames - 1)
    capture.set(
        cv2.CAP_PROP_POS_FRAMES, int(rng.integers(max(1, number - span)))
    )
    frames: list[np.ndarray] = []
    for index in range(span + 1):
        if not capture.grab():
            break
        if index % stride == 0:
            frames.append(_scaled(capture.retrieve()[1], clip.short_side))
    capture.release()
    frames += frames[-1:] * (clip.num_frames - len(frames))
    return np.stack(frames)


def _scaled(frame: np.ndarray, short_side: int) -> np.ndarray:
    height, width = frame.shape[:2]
    scale = short_side / min(height, width)
    size = round(width * scale), round(height * scale)
    rgb = cv2.cvtColor(frame, cv2.COLOR_BGR2RGB)
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA))


def measure_preparing(
    videos: Path, config: Config, *, rounds: int
) -> Iterator[tuple[str, list[ReadCost]]]:
    """Measures filling the frame store relative to ffmpeg alone.

    Args:
        videos: Path. A folder of videos.
        config: Config. The section `clip` is used.
        rounds: int. Measurements of each.

    Yields:
        A name, and the costs of all rounds: ffmpeg alone, which decodes,
        resizes and converts every frame; then filling a store with one
        worker, and with one worker per core.
    """
    manifest = Manifest.from_folder(videos)
    usable = [manifest.path(video) for video in manifest.videos]
    short_side = config.clip.short_side
    works: dict[str, Callable[[], object]] = {
        "ffmpeg alone": lambda: decode_with_ffmpeg(usable, short_side),
        "prepare, 1 worker": lambda: _fill(manifest, config.clip, 1),
        f"prepare, {num_cores()} workers": lambda: _fill(
            manifest, config.clip, num_cores()
        ),
    }
    costs: dict[str, list[ReadCost]] = {name: [] for name in works}
    for _ in range(rounds):
        for name, work in works.items():
            costs[name].append(cost(work))
    yield from costs.items()


def decode_with_ffmpeg(paths: Iterable[Path], short_side: int) -> None:
    """Decodes and scales videos with ffmpeg alone, and drops the frames.

    Args:
        paths: Iterable of Path. Videos that can be read.
        short_side: int. Pixels of their shorter side.
    """
    side = short_side
    scale = f"w='if(lt(iw,ih),{side},-1)':h='if(lt(iw,ih),-1,{side})'"
    for path in paths:
        _run_ffmpeg(
            *("-threads", "1", "-i", f"file:{path}", "-an"),
            *("-vf", f"scale={scale}", "-f", "rawvideo"),
            *("-pix_fmt", "rgb24", "-y", os.devnull),
        )


def _run_ffmpeg(*options: str) -> None:
    command = [ffmpeg_binary(), "-v", "error", "-nostdin", *options]
    done = run(command, timeout_seconds=_FFMPEG_SECONDS)
    if done.returncode:
        raise EnvironmentFault(f"ffmpeg failed: {last_word(done)}.")


def _fill(manifest: Manifest, clip: ClipConfig, workers: int) -> None:
    with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
        decode_all(manifest, clip, StoreConfig("jpeg", Path(folder), workers))

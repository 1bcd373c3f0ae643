"""`python docs/draw_timeline.py RUN`: plots the timeline of the README.

RUN is a run trained on the sample videos. Sample videos that it was not trained
on are joined to a longer one; the plot shows its predictions over time.
"""

import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np

import har_keras
from har_keras.report.timeline_files import plot_timeline
from har_keras.sample.samples import sample
from har_keras.video.ffmpeg import read_frames
from har_keras.video.writer import VideoWriter

FPS, SIZE = 16, (160, 120)
PARTS = ("walk", "gym", "work")
PICTURE = Path(__file__).with_name("timeline.png")


def long_video(folder: Path) -> np.ndarray:
    """Returns the frames of two videos of each class, one after the other."""
    videos = sample(folder / "videos", num_videos=8, seed=2026)
    frames = []
    for name in PARTS:
        for path in sorted((videos / "train" / name).iterdir())[:2]:
            with read_frames(
                path, fps=FPS, short_side=SIZE[1], timeout_seconds=60
            ) as reader:
                frames += [cv2.resize(frame, SIZE) for frame in reader]
    return np.stack(frames)


def main(run: str) -> None:
    """Generates the video, classifies it and writes the plot."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        frames = long_video(folder)
        path = folder / "joined.mp4"
        with VideoWriter(path, SIZE, FPS) as writer:
            for frame in frames:
                writer.write(frame)
        classifier = har_keras.VideoClassifier.load(run)
        prediction = classifier.predict(path, timeline=True)
    assert prediction.timeline is not None
    plot_timeline(
        prediction.timeline, "walk, gym, work", PICTURE, prediction.pictures
    )


if __name__ == "__main__":
    main(sys.argv[1])

"""Damaged and odd video files, made in code, each with what must come of it.

`FILES` maps a name to a maker and an outcome. A maker takes the path to write
and a healthy video of 4 s at 25 fps, 48 x 64, that shows frame `k` at
brightness `20 + 2 * k`. An outcome is a reason, or the number of frames on a
grid of 16 per second, in which case `damage` may be expected too.
"""

import os
from dataclasses import dataclass

import numpy as np

from support.videos import X264, ffmpeg, moving_square, write_video


@dataclass(frozen=True)
class Outcome:
    """What must come of a file: frames, at least and at most, or a reason."""

    frames: tuple[int, int] = (0, 0)
    reason: str = ""
    damage: str = ""
    shape: tuple[int, int] = (48, 64)


def whole(frames=64, shape=(48, 64)):
    return Outcome((frames, frames), shape=shape)


def refused(reason):
    return Outcome(reason=reason)


def part(damage, least, most):
    return Outcome((least, most), damage=damage)


def faststart(path, source):
    ffmpeg("-i", source, "-c", "copy", "-movflags", "+faststart", path)
    return bytearray(path.read_bytes())


def detailed(path):
    """Draws a video whose data are large enough to be damaged in places."""
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 60, (100, 120, 160, 3), dtype=np.uint8)
    frames = moving_square(100, height=120, width=160) // 2 + noise
    front = ("-movflags", "+faststart")
    write_video(path, frames, fps=25, options=(*X264, "-g", 25, *front))
    return bytearray(path.read_bytes())


def flipped(path, source):
    data = detailed(path)
    rng = np.random.default_rng(0)
    for place in rng.integers(len(data) // 3, len(data), 400):
        data[place] ^= 0xFF
    path.write_bytes(data)


def zeroed(path, source):
    data = detailed(path)
    middle = len(data) // 2
    data[middle : middle + 40_000] = bytes(40_000)
    path.write_bytes(data)


def truncated(path, source):
    data = detailed(path)
    path.write_bytes(data[: len(data) // 2])


def without_index(path, source):
    data = source.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])


def content(data):
    return lambda path, source: path.write_bytes(data)


def converted(*options, before=()):
    return lambda path, source: ffmpeg(*before, "-i", source, *options, path)


def audio_only(path, source):
    ffmpeg("-f", "lavfi", "-i", "sine=duration=2", "-c:a", "aac", path)


def cover_art(path, source):
    """Writes music with a picture on its cover, which is no video."""
    cover, music = path.with_name("cover.png"), path.with_name("music.m4a")
    ffmpeg("-i", source, "-frames:v", 1, cover)
    audio_only(music, source)
    ffmpeg(
        *("-i", music, "-i", cover, "-map", 0, "-map", 1, "-c:a", "copy"),
        *("-c:v", "png", "-disposition:v:0", "attached_pic", "-f", "mp4", path),
    )


def frames_only(number):
    return converted("-frames:v", number, *X264)


def zero_duration(path, source):
    """Writes one frame whose header says that it lasts no time."""
    ffmpeg("-i", source, "-frames:v", 1, *X264, path)
    data = bytearray(path.read_bytes())
    for box, place in ((b"mvhd", 16), (b"mdhd", 16), (b"tkhd", 20)):
        begin = data.index(box) + 4 + place
        data[begin : begin + 4] = bytes(4)
    path.write_bytes(data)


def late_stream(path, source):
    ffmpeg(
        *("-i", source, *X264, "-qp", 0, "-g", 250),
        *("-output_ts_offset", 5, "-f", "mpegts", path),
    )


def edit_list(path, source):
    """Writes a copy cut at 1.5 s, of which the header counts all frames."""
    keyframes = path.with_name("one-gop.mp4")
    ffmpeg("-i", source, *X264, "-qp", 0, "-g", 250, keyframes)
    ffmpeg("-ss", 1.52, "-i", keyframes, "-c", "copy", path)


def variable_rate(path, source):
    times = "settb=1/50,setpts='if(lt(N,50),N*2,100+(N-50)*4)'"
    ffmpeg(
        *("-i", source, "-vf", times, "-fps_mode", "passthrough"),
        *("-enc_time_base", "1:50", *X264, path),
    )


def turned(degrees):
    return converted("-c", "copy", before=("-display_rotation", degrees))


def drawn(height, width, *options):
    def make(path, source):
        frames = moving_square(32, height=height, width=width)
        write_video(path, frames, options=options)

    return make


def bomb(path, source):
    ffmpeg(
        *("-f", "lavfi", "-i", "color=red:size=8192x8192:rate=4:duration=1"),
        *X264,
        path,
    )


def alpha(path, source):
    frames = moving_square(32)
    half = np.full((*frames.shape[:3], 1), 128, np.uint8)
    ffmpeg(
        *("-f", "rawvideo", "-pix_fmt", "rgba", "-s", "64x48", "-r", 16),
        *("-i", "-", "-c:v", "libvpx-vp9", "-pix_fmt", "yuva420p", path),
        data=np.concatenate([frames, half], 3).tobytes(),
    )


def named(path, source):
    os.link(source, path)


def changing_size(path, source):
    """Writes a stream whose pictures become larger half-way."""
    joined = path.with_name("joined.h264")
    data = b""
    for size in ("64:48", "128:96"):
        part = path.with_name("part.h264")
        ffmpeg("-i", source, "-vf", f"scale={size}", *X264, part)
        data += part.read_bytes()
    joined.write_bytes(data)
    ffmpeg("-r", 25, "-i", joined, "-c", "copy", path)


def joined_streams(path, source):
    """Writes two recordings on end, as `cat` joins them: a break in time."""
    late_stream(path, source)
    path.write_bytes(2 * path.read_bytes())


PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nhealthy.mp4\n"
DASH = b"<MPD xmlns='urn:mpeg:dash:schema:mpd:2011'><Period/></MPD>"
SDP = b"v=0\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n"

FILES = {
    # Damaged: the good frames before the damage, and not one after it.
    "truncated.mp4": (truncated, part("truncated at", 16, 40)),
    "flipped.mp4": (flipped, part("damaged at", 1, 30)),
    "zeroed.mp4": (zeroed, part("damaged at", 16, 40)),
    "no-index.mp4": (without_index, refused("its index is missing")),
    "empty.mp4": (content(b""), refused("empty file")),
    "zeros.mp4": (content(bytes(9999)), refused("only zeros")),
    # No video at all.
    "page.mp4": (content(b"<html>404 not found</html>"), refused("a web page")),
    "words.mp4": (content(b"just words " * 99), refused("not a video")),
    "audio.mp4": (audio_only, refused("no video stream")),
    "cover.mp4": (cover_art, refused("no video stream")),
    # Refused before they can do harm.
    "hls.mp4": (content(PLAYLIST), refused("a playlist")),
    "hls.m3u8.ts": (content(PLAYLIST), refused("a playlist")),
    "concat.mp4": (
        content(b"ffconcat version 1.0\nfile healthy.mp4\n"),
        refused("a playlist"),
    ),
    "dash.mp4": (content(DASH), refused("a playlist")),
    "sdp.mp4": (content(SDP), refused("a playlist")),
    "bomb.mp4": (bomb, refused("too large")),
    "thin.mp4": (drawn(16, 400, *X264), refused("over 8 times")),
    # Odd, and all right.
    "one.mp4": (frames_only(1), whole(1)),
    "eight.mp4": (frames_only(8), whole(6)),
    "zero-duration.mp4": (zero_duration, whole(1)),
    "late.ts": (late_stream, whole()),
    "edit-list.mp4": (edit_list, Outcome((39, 41))),
    "rotated-90.mp4": (turned(90), whole(shape=(64, 48))),
    "rotated-180.mp4": (turned(180), whole()),
    "rotated-270.mp4": (turned(270), whole(shape=(64, 48))),
    "variable.mp4": (variable_rate, whole(96)),
    "odd-size.avi": (
        drawn(251, 333, "-c:v", "mjpeg"), whole(32, shape=(48, 64)),
    ),
    "ten-bit.mp4": (
        converted("-c:v", "libx265", "-pix_fmt", "yuv420p10le",
                  "-x265-params", "log-level=none"),
        whole(),
    ),
    "interlaced.mp4": (
        converted(*X264, "-flags", "+ildct+ilme", "-x264opts", "tff=1"),
        whole(),
    ),
    "alpha.webm": (alpha, whole(32)),
    "changing.ts": (changing_size, Outcome((126, 128))),
    "joined.ts": (joined_streams, part("damaged at", 62, 64)),
    "loop.gif": (converted(), Outcome((63, 65))),
    "old.avi": (converted("-c:v", "mpeg4", "-q:v", 3), whole()),
    "sound.mkv": (converted("-c", "copy"), whole()),
    # Names that are no options, addresses or patterns.
    "a b.mp4": (named, whole()),
    "quote'\"s.mp4": (named, whole()),
    "new\nline.mp4": (named, whole()),
    "-i.mp4": (named, whole()),
    "%03d.mp4": (named, whole()),
    "http:x.mp4": (named, whole()),
    "concat:a|b.mp4": (named, whole()),
    "=1+1.mp4": (named, whole()),
    os.fsdecode(b"\xff\xfe.mp4"): (named, whole()),
}  # fmt: skip


def make_all(folder, source):
    """Makes every file in a folder; returns outcomes by path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "healthy.mp4").write_bytes(source.read_bytes())
    outcomes = {}
    for name, (make, outcome) in FILES.items():
        # Helper files of a maker lie apart, so that they aren't listed.
        place = folder / name
        workshop = folder.with_name(f"{folder.name}-parts")
        workshop.mkdir(exist_ok=True)
        made = workshop / name
        make(made, source)
        os.replace(made, place)
        outcomes[place] = outcome
    return outcomes

"""ffmpeg is bounded, and ends with what started it."""

import contextlib
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from support.videos import draw_folder, draw_video

from har_keras import processes
from har_keras.errors import Interrupted
from har_keras.processes import Process
from har_keras.video.ffmpeg import VideoError, read_frames
from har_keras.video.header import log_of

READ = {"fps": 16.0, "short_side": 48, "timeout_seconds": 60}
# It writes nothing, and its own child would outlive it.
SILENT = """#!/bin/sh
echo $$ >> "$SILENT_PIDS"
sleep 600 &
sleep 600
"""


@pytest.fixture
def silent(tmp_path):
    """The environment of a program whose ffmpeg hangs in silence."""
    program = tmp_path / "ffmpeg"
    program.write_text(SILENT)
    program.chmod(0o755)
    return os.environ | {
        "IMAGEIO_FFMPEG_EXE": str(program),
        "SILENT_PIDS": str(tmp_path / "pids"),
        "XDG_CACHE_HOME": str(tmp_path),
    }


def started_by(program, pids, number=2):
    """Waits until silent ffmpegs run, and returns their process ids."""
    until = time.monotonic() + 60
    while not pids.exists() or len(pids.read_text().split()) < number:
        assert program.poll() is None, program.communicate()
        assert time.monotonic() < until
        time.sleep(0.05)
    time.sleep(0.2)
    return [int(line) for line in pids.read_text().split()]


def runs(session):
    """Whether any process of a session is alive and not a zombie."""
    for process in psutil.process_iter():
        try:
            mine = os.getsid(process.pid) == session
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                return True
        except (OSError, psutil.Error):
            continue  # it has just ended
    return False


def gone(pid, seconds):
    until = time.monotonic() + seconds
    while runs(pid) and time.monotonic() < until:
        time.sleep(0.05)
    return not runs(pid)


def verb(name, folder, environment):
    return subprocess.Popen(
        [sys.executable, "-m", f"har_keras.{name}", folder, "--workers", "2"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_verb_while_ffmpeg_is_silent(tmp_path, silent, number):
    draw_folder(tmp_path / "videos", per_class=2)
    program = verb("check", tmp_path / "videos", silent)
    pids = started_by(program, tmp_path / "pids")
    began = time.monotonic()
    program.send_signal(number)
    program.communicate(timeout=30)
    assert time.monotonic() - began < 2
    assert program.returncode == 128 + number
    assert all(gone(pid, 1) for pid in pids)


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_silent_ffmpeg_does_not_outlive_a_killed_program(tmp_path, silent):
    draw_folder(tmp_path / "videos", per_class=2)
    program = verb("check", tmp_path / "videos", silent)
    pids = started_by(program, tmp_path / "pids")
    program.kill()
    program.communicate()
    assert all(gone(pid, 2) for pid in pids)


KILLED_BESIDE = """
import sys
from har_keras.processes import Child

Child([sys.executable, "-c", sys.argv[1]], stdout=None).wait()
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_training_does_not_outlive_the_benchmark_that_began_it(tmp_path):
    child = "import os, time; print(os.getpid(), flush=True); time.sleep(600)"
    program = subprocess.Popen(
        [sys.executable, "-c", KILLED_BESIDE, child], stdout=subprocess.PIPE
    )
    pid = int(program.stdout.readline())
    program.kill()
    program.wait()
    assert gone(pid, 5)
    program.stdout.close()


KILLED_MEANWHILE = """
import os, signal, sys
from har_keras import processes

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

processes._Children.add = die
processes.Process([sys.argv[1]])
"""


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
def test_a_kill_while_ffmpeg_is_started_leaves_none(tmp_path, silent):
    program = subprocess.run(
        [sys.executable, "-c", KILLED_MEANWHILE, silent["IMAGEIO_FFMPEG_EXE"]],
        env=silent,
    )
    assert program.returncode == -signal.SIGKILL
    time.sleep(0.5)
    assert not (tmp_path / "pids").exists()


@pytest.fixture
def sleep():
    """Starts a program that sleeps, and closes its pipes at the end."""
    with contextlib.ExitStack() as stack:

        def start(seconds):
            process = Process(["sleep", str(seconds)])
            stack.callback(process.__exit__, None, None, None)
            stack.callback(process.end)
            return process

        yield start


def test_what_has_ended_is_not_killed_later(sleep):
    ended, runs_on = sleep(0), sleep(600)
    ended.wait()
    assert ended not in processes._children._running
    assert runs_on in processes._children._running
    runs_on.end()
    assert runs_on.wait() == -signal.SIGKILL
    assert not processes._children._running & {ended, runs_on}


def test_nothing_is_started_after_a_signal(sleep):
    waiting = sleep(600)
    processes.kill_all(signal.SIGTERM)
    try:
        assert waiting.wait(10) == -signal.SIGKILL
        with pytest.raises(Interrupted) as caught:
            sleep(600)
        assert caught.value.exit_code == 143
    finally:
        processes.start_again()
    assert sleep(0).wait() == 0


def test_a_guardian_that_was_killed_is_replaced(sleep):
    sleep(600)
    shell = processes._children._guardian._shell
    shell.kill()
    shell.wait()
    sleep(0).wait()  # finds that out
    sleep(0).wait()
    assert processes._children._guardian._shell.poll() is None


def test_the_system_limits_the_memory(tmp_path, monkeypatch):
    pytest.importorskip("resource")
    path = draw_video(
        tmp_path / "large.mp4", num_frames=2, height=3600, width=3600
    )
    assert list(read_frames(path, **READ))
    monkeypatch.setattr(processes, "MAX_BYTES", 120 * 2**20)
    with pytest.raises(VideoError, match="too much memory") as caught:
        list(read_frames(path, **READ))
    assert caught.value.passing


def test_where_the_system_does_not_the_watchdog_does(tmp_path, monkeypatch):
    path = draw_video(tmp_path / "a.mp4")
    monkeypatch.setattr(processes, "_limit_memory", lambda pid: False)
    assert list(read_frames(path, **READ))
    monkeypatch.setattr(Process, "memory_bytes", lambda self: 2**40)
    reader = read_frames(path, **READ | {"timeout_seconds": 1})
    time.sleep(0.5)  # the video waits in the pipe
    with pytest.raises(VideoError, match="too much memory") as caught:
        list(reader)
    assert caught.value.passing


def test_a_header_that_takes_too_much_memory_is_no_fault(tmp_path, monkeypatch):
    path = draw_video(tmp_path / "a.mp4")
    monkeypatch.setattr(processes, "_limit_memory", lambda pid: False)
    monkeypatch.setattr(Process, "memory_bytes", lambda self: 2**40)
    with pytest.raises(VideoError, match="too much memory") as caught:
        log_of(path, ["sleep", "60"], 1.0)
    assert caught.value.passing


def test_memory_is_measured(sleep):
    process = sleep(600)
    assert process.memory_bytes() > 0
    process.end()
    process.wait()
    assert process.memory_bytes() == 0

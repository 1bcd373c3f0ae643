import logging
import re
import sys

import pytest

from har_keras import cli
from har_keras.config import Config
from har_keras.progress import ProgressBar
from har_keras.training import time_estimate as pace
from har_keras.training.checkpoint import TrainingState


class Clock:
    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(pace, "time", clock)
    return clock


def train(
    clock, caplog, *, steps, epochs, step=2.0, validation=5.0, state=None
):
    """Plays the callbacks of a training whose first step takes a minute."""
    state = state or TrainingState()
    config = Config().replace(epochs=epochs)
    callback = pace.TimeEstimate(state, config, steps=steps, val_share=0.3)
    clock.now += 60.0 - step
    with caplog.at_level(logging.INFO, "har_keras"):
        for epoch in range(state.epoch, epochs):
            for batch in range(steps):
                last_of_first = epoch == state.epoch and batch == steps - 1
                # The last batch is smaller, and compiled for itself.
                clock.now += 15.0 if last_of_first else step
                callback.on_train_batch_end(batch)
            clock.now += validation
            callback.on_epoch_end(epoch)
    return [record.getMessage() for record in caplog.records]


def test_the_compiled_step_does_not_count(clock, caplog):
    (line,) = train(clock, caplog, steps=10, epochs=4)
    # 40 steps, 4 of them done; a third of 0.3 more for validation.
    assert line == "About 1 min 19 s to go: 36 steps of 2 s, and validation."


def test_short_epochs_are_measured_whole(clock, caplog):
    (line,) = train(clock, caplog, steps=1, epochs=10)
    # The second epoch, step and validation, takes seven seconds.
    assert line == "About 56 s to go: 8 steps of 7 s, and validation."


def test_what_the_first_epoch_compiles_does_not_count(clock, caplog):
    # Eight steps of a fifth of a second are too few to tell.
    lines = train(clock, caplog, steps=8, epochs=100, step=0.2)
    assert lines[0].startswith("About 10 min 47 s to go: 784 steps of 0.8")


def test_a_long_training_is_told_what_is_faster(clock, caplog):
    lines = train(clock, caplog, steps=100, epochs=100)
    assert len(lines) > 1
    assert "--recipe quick" in "\n".join(lines)


def test_a_run_that_goes_on_counts_what_is_left(clock, caplog):
    state = TrainingState(epoch=98)
    lines = train(clock, caplog, steps=10, epochs=100, state=state)
    assert lines[0].startswith("About 35 s to go: 16 steps")


def test_a_training_of_seconds_is_not_announced(clock, caplog):
    assert not train(clock, caplog, steps=10, epochs=1, step=0.1, validation=0)


def test_what_is_faster_is_no_slower():
    quick = Config().replace(recipe="quick")
    assert "--recipe quick" not in "".join(pace.faster(quick, 900.0))
    large = Config().replace(crop_size=224, num_frames=32)
    assert "--attention factorised" in "".join(pace.faster(large, 900.0))
    assert all(len(line) < 80 for line in pace.faster(large, 1e6))


def test_a_message_stands_above_the_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("FORCE_COLOR", "1")

    def verb():
        with ProgressBar("Working", 2) as bar:
            bar.advance()
            logging.getLogger("har_keras").info("A sentence.")

    assert cli.run_verb(verb) == 0
    written = capsys.readouterr().err
    # What a terminal shows: `\r` goes back, the code after it erases.
    shown = re.sub(r"[^\n]*\r\x1b\[2K", "", written)
    lines = re.sub(r"\x1b\[[0-9;?]*\w", "", shown).splitlines()
    assert "A sentence." in [line.strip() for line in lines]


def test_the_time_left_does_not_count_the_first_step(clock, monkeypatch):
    monkeypatch.setattr("har_keras.progress.time", clock)
    bar = ProgressBar("Working", 10)
    clock.now += 60.0  # compiles
    bar.advance()
    assert bar.left == ""
    clock.now += 4.0
    bar.advance(2)
    assert bar.left == "14 s left"
    bar.advance(7)
    assert bar.left == ""


def test_short_epochs_are_measured_for_some_seconds(clock, caplog):
    # The second epoch saves its model; only in all do they tell the time.
    lines = train(clock, caplog, steps=5, epochs=200, step=0.02, validation=0.1)
    (line,) = lines
    # Of 200 epochs, 183 of a fifth of a second are left.
    assert line.startswith("About 37 s to go: 915 steps")

"""The phases of a training and what they took."""

import time

import pytest

from har_keras.phases import Phase, Phases


def test_phases_are_timed_written_and_read_again(tmp_path):
    phases = Phases()
    with phases("waiting"):
        time.sleep(0.2)
    with phases("computing"):
        began = time.process_time()
        while time.process_time() < began + 0.1:
            pass
    phases.write(tmp_path / "phases.csv")
    waiting, computing = Phases.read(tmp_path / "phases.csv").ended
    assert [waiting, computing] == phases.ended
    assert waiting.wall_seconds >= 0.2 > waiting.cpu_seconds
    assert computing.cpu_seconds > 0.05
    assert waiting.ended <= computing.began + 0.01


def test_a_phase_that_failed_is_not_told():
    phases = Phases()
    with pytest.raises(ValueError, match="broken"), phases("decoding"):
        raise ValueError("broken")
    assert phases.ended == []


def test_people_read_of_the_long_ones():
    phases = Phases()
    phases.ended = [
        Phase("listing", 0.0, 0.3, 0.3),
        Phase("decoding", 0.3, 20.2, 31.0),
        Phase("training", 20.5, 100.0, 190.0),
    ]
    assert str(phases) == "Took 2 min 0 s: decoding 20 s, training 1 min 40 s."

"""What Beam does is what the local pool does, byte for byte."""

import errno
import importlib.util
import json
import sys

import pytest
from support.videos import draw_folder, draw_video, truncate

from har_keras import beam as beam_pool
from har_keras import predict, prepare
from har_keras import prepare as beam_filling
from har_keras.errors import EnvironmentFault, UsageError
from har_keras.inference.classifier import Classifier, Prediction
from har_keras.report.predictions import PredictionCache
from har_keras.store import decoding as filling
from har_keras.video.sources import Source

needs_beam = pytest.mark.skipif(
    importlib.util.find_spec("apache_beam") is None,
    reason="needs the extra beam",
)
# Beam's own, about Python and itself.
pytestmark = pytest.mark.filterwarnings("default")
TWO_PROCESSES = "direct_running_mode=multi_processing direct_num_workers=2"


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = draw_folder(tmp_path_factory.mktemp("beam"), per_class=5)
    truncate(folder / "up/up-00.mp4", folder / "up/cut.mp4", share=0.8)
    (folder / "up" / "bad.mp4").write_text("this is no video at all")
    return folder


@pytest.fixture(scope="module")
def run(tiny_run):
    return tiny_run


def bytes_of(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def prepared(videos, folder, *flags):
    arguments = [
        videos, "--store-dir", folder / "store", "--cache", "jpeg",
        "--manifest", folder / "manifest.csv", *flags,
    ]  # fmt: skip
    assert prepare.main([str(argument) for argument in arguments]) == 0
    return bytes_of(folder)


@needs_beam
def test_a_prepared_store_is_the_same_bytes(videos, tmp_path, capsys):
    local = prepared(videos, tmp_path / "local")
    capsys.readouterr()
    assert prepared(videos, tmp_path / "beam", "--pool", "beam") == local
    said = capsys.readouterr().err
    assert "'up/bad.mp4' is not used: not a video" in said
    assert "10 of 12 videos can be used" in said


@needs_beam
def test_features_are_the_same_bytes(videos, tmp_path):
    flags = (
        *("--recipe", "transfer", "--crop-size", "64", "--num-frames", "4"),
        *("--num-clips", "2"),
    )
    local = prepared(videos, tmp_path / "local", *flags)
    assert (
        prepared(videos, tmp_path / "beam", "--pool", "beam", *flags) == local
    )
    assert sum(name.endswith(".npy") for name in local) >= 10


@needs_beam
def test_what_is_done_is_not_done_again(videos, tmp_path, monkeypatch):
    whole = prepared(videos, tmp_path, "--pool", "beam")
    # Killed: one shard without its index, and half a file.
    index = min(tmp_path.glob("store/*/*.npz"))
    index.unlink()
    half = index.with_name(".12345678-shard.bin")
    half.write_bytes(b"half a shard")
    decoded = []
    read = filling.read_video

    def read_frames(path, **options):
        decoded.append(path)
        return read(path, **options)

    monkeypatch.setattr(filling, "read_video", read_frames)
    again = prepared(videos, tmp_path, "--pool", "beam")
    half.unlink()
    del again[str(half.relative_to(tmp_path))]
    assert again == whole
    assert len(decoded) == 1
    assert prepared(videos, tmp_path, "--pool", "beam") == whole
    assert len(decoded) == 1


@needs_beam
def test_a_full_disk_is_one_sentence(videos, tmp_path, monkeypatch, capsys):
    def full(frame):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(filling, "encode_jpeg", full)
    flags = ("--store-dir", str(tmp_path), "--cache", "jpeg", "--pool", "beam")
    assert prepare.main([str(videos), *flags]) == 4
    said = capsys.readouterr().err
    assert "Error: The disk is full" in said
    assert "Traceback" not in said


def predicted(capsys, *arguments):
    code = predict.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@needs_beam
@pytest.mark.parametrize("form", ["csv", "json", "table"])
def test_answers_are_the_same_bytes(run, videos, tmp_path, capsys, form):
    asked = (run.path, videos, "--format", form)
    local = predicted(capsys, *asked)
    beam = predicted(capsys, *asked, "--pool", "beam", "--output", tmp_path)
    assert beam == local
    assert local[0] == 3
    assert "1 of 12 videos could not be used" in local[2]


@needs_beam
def test_files_about_videos_are_the_same_bytes(run, tmp_path, capsys):
    draw_folder(tmp_path / "videos", per_class=2)
    asked = (run.path, tmp_path / "videos", "--timeline", "--attention")
    local, beam = tmp_path / "local", tmp_path / "beam"
    said = predicted(capsys, *asked, "--output", local)
    by_beam = predicted(capsys, *asked, "--output", beam, "--pool", "beam")
    # Each names the folder that it wrote to.
    assert [str(x).replace(str(beam), str(local)) for x in by_beam] == [
        *map(str, said)
    ]
    assert " s to " in said[1]
    made = bytes_of(beam)
    assert sum(name.startswith("answers/") for name in made) == 4
    assert {k: v for k, v in made.items() if "answers" not in k} == bytes_of(
        local
    )


@needs_beam
def test_nothing_is_asked_twice(run, tmp_path, monkeypatch, capsys):
    videos = draw_folder(tmp_path / "videos", per_class=2)
    asked = (run.path, videos, "--pool", "beam", "--output", tmp_path / "out")
    first = predicted(capsys, *asked)
    looked_at = []
    read_views = Classifier.read_views

    def read(self, video, fps):
        looked_at.append(video)
        return read_views(self, video, fps)

    monkeypatch.setattr(Classifier, "read_views", read)
    assert predicted(capsys, *asked) == first
    assert looked_at == []
    # Changed, damaged and failed ones are.
    draw_video(videos / "up/up-00.mp4", num_frames=20, seed=77)
    (videos / "up" / "new.mp4").write_text("no video")
    min((tmp_path / "out" / "answers").iterdir()).write_text("{")
    code, out, _ = predicted(capsys, *asked)
    assert code == 3
    assert 2 <= len(looked_at) <= 3
    before = len(looked_at)
    assert predicted(capsys, *asked)[1] == out
    assert [path.name for path in looked_at[before:]] == ["new.mp4"]


@needs_beam
@pytest.mark.slow
def test_two_processes_give_the_same_bytes(run, videos, tmp_path, capsys):
    beam = ("--pool", "beam", "--beam-options", TWO_PROCESSES)
    local = prepared(videos, tmp_path / "local")
    assert prepared(videos, tmp_path / "beam", *beam) == local
    capsys.readouterr()
    asked = (run.path, videos, "--format", "json")
    local = predicted(capsys, *asked)
    assert predicted(capsys, *asked, *beam, "--output", tmp_path) == local


@needs_beam
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("direct_num_workers=many", "invalid int value: 'many'"),
        ("runner=Nope", "Unexpected pipeline runner: Nope"),
        ("runner='", "No closing quotation"),
    ],
)
def test_wrong_options_are_refused(options, words):
    with pytest.raises(UsageError, match=words):
        beam_pool.require_pool("beam", options)


def test_options_without_a_pipeline_are_refused():
    with pytest.raises(UsageError, match="for --pool beam"):
        beam_pool.require_pool("local", "runner=FlinkRunner")


def test_a_missing_beam_is_one_sentence(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    for verb, asked in ((prepare, [tmp_path]), (predict, ["run", "a.mp4"])):
        code = verb.main([*map(str, asked), "--pool", "beam"])
        said = capsys.readouterr().err
        assert code == 4
        assert 'pip install "har_keras[beam]"' in said
        assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("verb", "flags", "words"),
    [
        (prepare, ("videos", "--cache", "off"), "--cache off"),
        (predict, ("http://a:8501/v1/models/b", "a.mp4"), "give a run"),
        (predict, ("run", "camera:0"), "videos that end"),
    ],
)
def test_what_a_pipeline_can_not_do_is_refused(
    verb, flags, words, monkeypatch, capsys
):
    for module in (prepare, predict):
        monkeypatch.setattr(module, "require_pool", lambda *given: None)
    assert verb.main([*flags, "--pool", "beam"]) == 2
    assert words in capsys.readouterr().err


def test_a_machine_that_sees_another_folder_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(beam_filling, "each_by_beam", lambda *given: {})
    path = draw_video(tmp_path / "a.mp4")
    task = filling.Task(filling.content_hash(path), path)
    store = filling.Store(tmp_path / "s", filling.StoreSpec(64, 16.0, "jpeg"))
    with pytest.raises(EnvironmentFault, match="under this name"):
        beam_filling.fill_by_beam(store, [task], timeout_seconds=60)


def test_a_kept_answer_is_found_by_question_and_content(tmp_path):
    source = Source("a.mp4", "file", "/videos/a.mp4")
    kept = PredictionCache(tmp_path, "a model")
    found = Prediction("a.mp4", "up", 0.7, {"down": 0.3, "up": 0.7})
    kept.write(source, "hash", found)
    assert kept.read(source) == found
    assert kept.holds(source, "hash")
    assert not kept.holds(source, "another")
    assert PredictionCache(tmp_path, "another").read(source) is None
    kept.write(source, "hash", Prediction("a.mp4", reason="timed out"))
    assert not kept.holds(source, "hash")
    (file,) = tmp_path.iterdir()
    assert json.loads(file.read_text())["answer"]["reason"] == "timed out"

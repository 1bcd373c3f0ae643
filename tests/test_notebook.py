"""`har_keras.notebook`, and what the package does in a notebook."""

import base64
import importlib.resources
import logging
import sys
import types
import zipfile

import cv2
import numpy as np
import pytest

from har_keras import notebook, progress
from har_keras.config import Config
from har_keras.errors import DataError, UsageError
from har_keras.inference.classifier import Prediction
from har_keras.notebook import camera, places
from har_keras.progress import ProgressBar


class Cell:
    """The output of a notebook's cell: bundles, each updated in its place."""

    def __init__(self):
        self.bundles = []

    def display(self, data, *, raw=False, display_id=False):
        place = len(self.bundles)
        self.bundles.append(data)
        update = lambda new, raw: self.bundles.__setitem__(place, new)  # noqa: E731
        return types.SimpleNamespace(update=update) if display_id else None


@pytest.fixture
def cell(monkeypatch):
    """A notebook, with or without IPython installed."""
    found = Cell()
    module = types.ModuleType("IPython.display")
    module.display = found.display
    module.Javascript = lambda code: {"application/javascript": code}
    shell = types.SimpleNamespace(kernel=object())
    ipython = types.ModuleType("IPython")
    ipython.get_ipython = lambda: shell
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return found


@pytest.fixture
def colab(monkeypatch, tmp_path):
    """Google Colab: its modules, and a Drive that is not mounted yet."""
    drive = tmp_path / "drive"
    monkeypatch.setattr(places, "_MOUNT", drive)
    monkeypatch.setattr(places, "_DRIVE", drive / "MyDrive")
    modules = {
        "files": types.SimpleNamespace(upload=dict),
        "drive": types.SimpleNamespace(
            mount=lambda path: (drive / "MyDrive").mkdir(parents=True)
        ),
        "output": types.SimpleNamespace(),
    }
    module = types.ModuleType("google.colab")
    for name, part in modules.items():
        setattr(module, name, part)
    monkeypatch.setitem(sys.modules, "google.colab", module)
    folder = tmp_path / "content"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return module


def zipped(path, names, content=b"x"):
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, content)
    return path


# Progress.


def test_a_bar_moves_in_the_output_of_the_cell(cell):
    with ProgressBar("Reading <b>", 2) as bar:
        bar.advance()
        (first,) = cell.bundles
        bar.advance()
    (last,) = cell.bundles
    assert first["text/plain"] == "Reading <b>: 0/2"
    assert last["text/plain"] == "Reading <b>: 2/2"
    assert '<progress max="2" value="2"' in last["text/html"]
    assert "Reading &lt;b&gt;: 2/2" in last["text/html"]


def test_epochs_fold_below_the_bar_and_are_logged_but_not_printed(cell, caplog):
    with caplog.at_level(logging.INFO), ProgressBar("Training", 2) as bar:
        bar.note("Epoch 1/2: loss 0.9")
        bar.note("Epoch 2/2: loss 0.5")
    (shown,) = cell.bundles
    assert "<summary>Epoch 2/2: loss 0.5</summary>" in shown["text/html"]
    assert "Epoch 1/2: loss 0.9" in shown["text/html"]
    assert len(caplog.records) == 2
    assert not any(map(progress.is_unseen, caplog.records))


def test_elsewhere_an_epoch_is_a_line(caplog):
    with caplog.at_level(logging.INFO), ProgressBar("Training", 2) as bar:
        bar.note("Epoch 1/2: loss 0.9")
    assert caplog.messages == ["Epoch 1/2: loss 0.9"]
    assert all(map(progress.is_unseen, caplog.records))


def test_a_terminal_with_ipython_is_no_notebook(cell, monkeypatch):
    assert progress.in_notebook()
    monkeypatch.setattr(
        sys.modules["IPython"], "get_ipython", types.SimpleNamespace
    )
    assert not progress.in_notebook()
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: None)
    assert not progress.in_notebook()


# Places.


def test_results_are_here_and_there_is_no_gpu(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("har_keras.doctor.backends.nvidia_gpus", lambda: ())
    monkeypatch.setattr(
        "har_keras.training.devices.chosen_devices", lambda: ["cpu:0"]
    )
    assert notebook.start("first") == places.Path("first")
    said = capsys.readouterr().out
    assert "CPU cores, without a GPU." in said
    assert "Results are kept in first.\n" in said


@pytest.mark.parametrize(
    ("devices", "said"),
    [
        (["gpu:0"], "computes on a GPU: Tesla T4."),
        (["cpu:0"], "There is a GPU, Tesla T4, and "),
    ],
)
def test_a_gpu_is_noticed(devices, said, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(
        "har_keras.doctor.backends.nvidia_gpus", lambda: ("Tesla T4",)
    )
    monkeypatch.setattr(
        "har_keras.training.devices.chosen_devices", lambda: devices
    )
    notebook.start("first")
    assert said in capsys.readouterr().out


def test_a_mistake_is_one_sentence_and_ends_the_notebook(tmp_path):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    cells = [
        "import har_keras.notebook as n; results = n.start('first')",
        "n.find_videos('nowhere', results)",
        "print('not reached')",
    ]
    made = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(source) for source in cells]
    )
    client = nbclient.NotebookClient(
        made, timeout=120, resources={"metadata": {"path": str(tmp_path)}}
    )
    with pytest.raises(nbclient.exceptions.CellExecutionError):
        client.execute()
    (said,) = made.cells[1].outputs
    assert said.text.startswith("DataError: There is no folder 'nowhere'.")
    assert said.text.count("\n") == 1
    assert not made.cells[2].outputs


def test_results_are_kept_on_drive_once_it_is_mounted(colab, capsys):
    assert notebook.start("first") == places.Path("first")
    assert "save_to_drive keeps them" in capsys.readouterr().out
    folder = notebook.start("first", save_to_drive=True)
    assert folder == places._DRIVE / "har_keras" / "first"
    assert folder.is_dir()
    assert notebook.start("second").parent == folder.parent


def test_a_drive_that_is_refused_is_said(colab, capsys):
    def refuse(path):
        raise ValueError("mount failed")

    colab.drive.mount = refuse
    assert notebook.start("first", save_to_drive=True) == places.Path("first")
    said = capsys.readouterr().out
    assert "Google Drive was not mounted: mount failed." in said


def test_videos_on_drive_are_there_once_it_is_mounted(colab):
    def mount(path):
        (places._DRIVE / "videos").mkdir(parents=True)

    colab.drive.mount = mount
    videos = places._DRIVE / "videos"
    assert notebook.find_videos(str(videos), "first") == videos


def test_sample_videos_are_generated_once(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    folder = notebook.find_videos("sample", "first", num_videos=3)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*.mp4")}
    assert len(before) == 9
    assert notebook.find_videos("sample", "first", num_videos=3) == folder
    assert {path: path.stat().st_mtime_ns for path in before} == before
    other = notebook.find_videos(
        "sample", "first", num_videos=3, untrimmed=True
    )
    assert other != folder


@pytest.mark.parametrize("where", ["", "nothing", "/content/nothing"])
def test_a_folder_that_is_not_there(where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match=f"no folder '{where}'"):
        notebook.find_videos(where, "first")


def test_uploading_is_for_colab(tmp_path):
    with pytest.raises(UsageError, match="put the folder of your videos"):
        notebook.find_videos("upload", tmp_path)


def test_an_upload_is_unpacked_and_kept(colab, capsys):
    names = ["my/gym/a.mp4", "my/walk/b.mp4", "__MACOSX/my/._a.mp4"]

    def upload():
        zipped("my.zip", [*names, "my/.DS_Store", "my/../../outside.mp4"])
        return {"my.zip": b""}

    colab.files.upload = upload
    results = places.Path("first")
    folder = notebook.find_videos("upload", results)
    assert folder == results / "videos" / "my"
    found = {x.relative_to(folder).as_posix() for x in folder.rglob("*.mp4")}
    assert found == {"gym/a.mp4", "walk/b.mp4"}
    assert not places.Path("my.zip").exists()
    assert not places.Path("outside.mp4").exists()
    colab.files.upload = None  # is not asked again
    assert notebook.find_videos("upload", results) == folder
    assert "uploaded before" in capsys.readouterr().out


@pytest.mark.parametrize("names", [[], ["a.mp4"], ["a.zip", "b.zip"]])
def test_what_is_uploaded_is_one_zip(names, colab):
    colab.files.upload = lambda: dict.fromkeys(names, b"")
    with pytest.raises(DataError, match=r"One \.zip with a folder for each"):
        notebook.find_videos("upload", "first")


def test_a_zip_that_is_none_or_too_large(tmp_path, monkeypatch):
    path = tmp_path / "a.zip"
    path.write_bytes(b"not a zip")
    with pytest.raises(DataError, match=r"'.*a\.zip' can't be unpacked: "):
        notebook.find_videos(str(path), tmp_path)
    zipped(path, ["gym/a.mp4"])
    free = types.SimpleNamespace(free=0)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.disk_usage", lambda _: free)
        with pytest.raises(DataError, match=r"0\.0 GB are free"):
            notebook.find_videos(str(path), tmp_path)
    assert not (tmp_path / "videos").exists()
    folder = notebook.find_videos(str(path), tmp_path)
    assert (folder / "gym" / "a.mp4").is_file()


# Reports and videos.


def test_a_report_is_shown_without_scripts(cell, tmp_path):
    page = tmp_path / "report.html"
    page.write_text('<p class="a">A & B</p>', "utf-8")
    notebook.show_report(page)
    (shown,) = cell.bundles
    assert shown["text/html"].startswith("<iframe sandbox srcdoc=")
    assert (
        "&lt;p class=&quot;a&quot;&gt;A &amp; B&lt;/p&gt;" in shown["text/html"]
    )
    with pytest.raises(DataError, match="can't be read"):
        notebook.show_report(tmp_path / "none.html")


def test_videos_play_small_beside_each_other(cell, few_videos):
    first, second = sorted((few_videos / "up").iterdir())[:2]
    notebook.show_videos([first])
    notebook.show_videos({first: "<up>", second: "<up>"}, seconds=1)
    one, two = (bundle["text/html"] for bundle in cell.bundles)
    assert f"up/{first.name}" in one
    assert two.count("<video ") == 2
    assert "&lt;up&gt;" in two
    (data, _) = [x.split('"')[0] for x in two.split("video/mp4;base64,")[1:]]
    assert base64.b64decode(data)[4:8] == b"ftyp"
    assert len(data) < 40_000


# The camera.


class Model:
    """A classifier that keeps what it saw."""

    config = Config().replace(num_frames=4, fps=2.0, crop_size=32)

    def __init__(self):
        self.seen = []

    def watch(self, source):
        for frames in source:
            self.seen.append(frames)
            number = len(self.seen)
            yield Prediction("frames", "walk", 0.9, accepted=number % 2 == 1)


def test_without_a_camera_a_video_plays_its_part(
    cell, numbered_video, capsys, monkeypatch
):
    slept = []
    monkeypatch.setattr("har_keras.notebook.camera.time.sleep", slept.append)
    model = Model()
    found = notebook.watch_camera(
        model, stand_in=numbered_video, max_seconds=3.0
    )
    assert "There is no camera here" in capsys.readouterr().out
    # Of 3 s at 2 frames/s: the first four frames, and then every second one.
    assert len(found) == len(model.seen) == 2
    assert {len(frames) for frames in model.seen} == {4}
    np.testing.assert_array_equal(model.seen[0][2:], model.seen[1][:2])
    assert slept == sorted(slept)
    shown = cell.bundles[-1]["text/html"]
    assert shown.count("<img ") == 2
    assert "walk, 90%" in shown
    assert "none of these" in shown


def jpegs(number):
    ok, data = cv2.imencode(".jpg", np.full((48, 64, 3), 9, np.uint8))
    assert ok
    return [base64.b64encode(bytes(data)).decode("ascii")] * number


def test_the_browser_is_asked_until_it_is_stopped(cell, colab):
    asked = []

    def run(code):
        asked.append(code)
        if "start" in code or "stop()" in code:
            return None
        known = sum("next" in line for line in asked)
        return {
            "number": 4 * known,
            "stopped": known == 3,
            "frames": jpegs(4),
        }

    colab.output.eval_js = run
    model = Model()
    notebook.watch_camera(model, stand_in="none.mp4", max_seconds=60)
    assert len(model.seen) == 2
    assert model.seen[0].shape == (4, 48, 64, 3)
    assert asked[0].startswith("harCamera.start(2.0, ")
    assert asked[1:] == [
        'harCamera.next(4, 0, "")',
        'harCamera.next(6, 4, "walk, 90%")',
        'harCamera.next(10, 8, "none of these")',
        "harCamera.stop()",
    ]


def test_a_camera_that_is_refused_is_said(cell, colab, numbered_video, capsys):
    def run(code):
        raise RuntimeError("NotAllowedError: Permission denied")

    colab.output.eval_js = run
    notebook.watch_camera(Model(), stand_in=numbered_video, max_seconds=2.0)
    said = capsys.readouterr().out
    assert "The browser gives no camera: NotAllowedError" in said
    assert "plays its part" in said


def test_a_real_browser_sends_its_newest_frames(chromium):
    page = chromium.new_page()
    # Cameras are for pages of this machine, or by https.
    page.route(
        "**/*",
        lambda route: route.fulfill(body="<body>", content_type="text/html"),
    )
    page.goto("http://localhost/")
    script = importlib.resources.files("har_keras.notebook") / "camera.js"
    page.evaluate(script.read_text("utf-8"))
    clip = Config().replace(num_frames=4, fps=10.0, crop_size=32).clip
    source = camera._Browser(clip, page.evaluate)
    clips = source.clips(60)
    first = next(clips)
    source.words = "walk, 90%"
    second = next(clips)
    assert first.shape[0] == second.shape[0] == 4
    assert min(first.shape[1:3]) == clip.short_side
    assert not np.array_equal(first, second)  # the device counts
    assert page.get_by_role("status").inner_text() == "walk, 90%"
    page.get_by_role("button", name="Stop").click()
    assert next(clips, None) is None
    source.close()
    page.close()

"""What several files of tests share; helpers are in `support/`."""

import gc
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from support.videos import X264, draw_folder, write_video

# A shell ignores it for a job in the background, and then so do the programs
# that the tests start and interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What XLA does to make a program fast takes longer than a tiny model runs. CI
# compiles once as users do, with XLA_FLAGS="".
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")

# Helpers and programs have no tests.
collect_ignore = ["support", "programs"]

# They take longest: each is one process's first work.
LONGEST = [
    "test_features", "test_trainer", "test_flow", "test_evaluate",
    "test_signatures", "test_api", "test_fit", "test_suggestions",
    "test_backbones", "test_pretraining", "test_load",
]  # fmt: skip
CHROMIUM_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic",
    "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
]  # fmt: skip


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_auto_num_workers():
    """Returns one more than there are cores: some tests only wait."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items):
    """Puts the longest files first, so that all processes end together."""
    items.sort(
        key=lambda item: (
            LONGEST.index(item.path.stem)
            if item.path.stem in LONGEST
            else len(LONGEST)
        )
    )


def pytest_collection_finish():
    """Has the garbage collector leave out what the imports made for good."""
    gc.freeze()


@pytest.fixture(scope="session")
def make_once(tmp_path_factory):
    """Returns a function that makes a folder once for all processes.

    The tests run in several processes. The first that asks for a folder makes
    it, the others wait. Tests read what is in it and never write there.
    """
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent

    def make(name, fill):
        folder, done = root / "shared" / name, root / "shared" / f"{name}.done"
        folder.parent.mkdir(exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                done.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def video_folder(make_once):
    """Two classes of six three-second videos: `down` and `up`."""
    return make_once("videos", draw_folder)


@pytest.fixture(scope="session")
def few_videos(make_once):
    """Two classes of four three-second videos: `down` and `up`."""
    return make_once("few", lambda folder: draw_folder(folder, per_class=4))


@pytest.fixture(scope="session")
def tiny_run(make_once, few_videos):
    """An untrained run on the few videos, measured and not exported."""
    # Not at the top: the process that hands out the tests imports this file.
    from support.tiny_run import untrained_run

    from har_keras.run import Run

    folder = make_once("tiny", lambda new: untrained_run(new, few_videos))
    return Run(folder / "run")


@pytest.fixture(scope="session")
def exported_run(make_once, tiny_run):
    """That run with a SavedModel, an ONNX and an OpenVINO export."""
    from har_keras.export import export
    from har_keras.run import Run

    def fill(folder):
        shutil.copytree(tiny_run.path, folder / "run")
        export(Run(folder / "run"), ["onnx", "openvino"])

    return make_once("exported", fill) / "run"


@pytest.fixture(scope="session")
def tiny_version(make_once):
    """The SavedModel of `tiny_model` in `support/tiny_serving.py`."""
    from support.tiny_serving import INFO, NAMES, tiny_model

    from har_keras.serving.signatures import export_saved_model

    def fill(folder):
        export_saved_model(tiny_model(), NAMES, INFO, folder)

    return make_once("tiny_version", fill) / "1"


@pytest.fixture
def run_copy(exported_run, tmp_path):
    """A copy of that run, to be changed."""
    return shutil.copytree(exported_run, tmp_path / "run")


@pytest.fixture(scope="session")
def numbered_video(make_once):
    """A 4 s video at 25 fps whose picture tells the number of its frame."""

    def fill(folder):
        levels = np.arange(100, dtype=np.uint8) * 2 + 20
        frames = np.broadcast_to(levels[:, None, None, None], (100, 48, 64, 3))
        lossless = (*X264, "-qp", 0)
        write_video(
            folder / "numbered.mp4", frames.copy(), fps=25, options=lossless
        )

    return make_once("numbered", fill) / "numbered.mp4"


@pytest.fixture(scope="module")
def without_xla():
    """Leaves XLA out: it takes longer to compile a tiny model than to train it.

    `test_flow.py`, `test_trainer.py` and the crash matrix of `train` have it.
    """
    import keras

    with pytest.MonkeyPatch.context() as patch:
        if keras.config.backend() == "tensorflow":  # JAX is slower without.
            patch.setattr("har_keras.training.trainer._can_jit", lambda: False)
        yield


@pytest.fixture(scope="module")
def without_export_check():
    """Leaves out what asks every signature of an export, a second or two.

    `test_signatures.py` has a test of it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "har_keras.serving.signatures.require_same_predictions",
            lambda *_: None,
        )
        yield


@pytest.fixture
def without_waves(monkeypatch):
    """Leaves out the waves of large models, whose values a test never reads."""
    from keras import ops

    from har_keras.model.initializers import CosineFilters, CosinePositions

    for kind in (CosineFilters, CosinePositions):
        monkeypatch.setattr(
            kind, "__call__", lambda self, shape, **options: ops.zeros(shape)
        )


@pytest.fixture(scope="session")
def real_videos():
    """The real videos beside the repository; skips where they are not."""
    folder = Path(__file__).parents[2] / "shared" / "videos"
    if not folder.is_dir():
        pytest.skip("there are no real videos beside the repository")
    return folder


@pytest.fixture(scope="module")
def chromium():
    """A real browser; skips where it, or its driver, is missing."""
    driver = pytest.importorskip(
        "playwright.sync_api", reason="needs pip install playwright"
    )
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("needs Chromium, such as Debian's package of that name")
    with driver.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=path, args=CHROMIUM_FLAGS
        )
        yield browser
        browser.close()


@pytest.fixture
def client_of():
    """Makes clients that are closed at the end of the test."""
    from har_keras.serving.client import ServingClient

    made = []

    def make(url, **options):
        made.append(ServingClient(url, **options))
        return made[-1]

    yield make
    for client in made:
        client.close()


@pytest.fixture
def point_to(monkeypatch, tmp_path):
    """Returns a function that points huggingface_hub to an address.

    It has no token, and an empty cache, whose folder is returned.
    """
    from support.stand_in_hub import point_client_to

    cache = tmp_path / "cache"
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.chdir(tmp_path)

    def point(endpoint, *, offline=False):
        point_client_to(monkeypatch, cache, endpoint, offline=offline)
        return cache

    return point

"""Where a notebook computes, reads its videos and keeps its results."""

import shutil
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

from har_keras.environment import num_cores, start_backend
from har_keras.errors import DataError, HarError, UsageError
from har_keras.progress import in_notebook
from har_keras.terminal import printable

_MOUNT = Path("/content/drive")
_DRIVE = _MOUNT / "MyDrive"
_BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
_NO_VIDEOS = (".", "__MACOSX", "Thumbs.db", "desktop.ini")


def start(name: str, *, save_to_drive: bool = False) -> Path:
    """Starts the backend, and says what it computes on.

    From then on, a mistake of the user is one sentence here, too, and no
    traceback.

    Args:
        name: str. Name of the folder for the results.
        save_to_drive: bool. Whether to keep them on Google Drive, which Colab
            asks for once. One that is mounted is used in any case. Defaults to
            `False`.

    Returns:
        Path. The folder, on Drive or here.

    Example:

    >>> start("first")  # doctest: +SKIP
    TensorFlow computes on a GPU: Tesla T4.
    Results are kept in drive/MyDrive/har_keras/first.
    """
    _say_errors_in_a_sentence()
    # `%run -m` warns of verbs that another one has imported.
    warnings.filterwarnings("ignore", "'har_keras", RuntimeWarning)
    print(_device(start_backend()))
    if save_to_drive:
        _mount()
    on_drive = _DRIVE.is_dir()
    folder = _DRIVE / "har_keras" / name if on_drive else Path(name)
    folder.mkdir(parents=True, exist_ok=True)
    lost = "" if on_drive or not in_colab() else _LOST
    print(f"Results are kept in {_short(folder)}.{lost}")
    return folder


_LOST = " They go with this machine: save_to_drive keeps them."


def find_videos(where: str, results: Path | str, **sample: Any) -> Path:
    """Returns the folder of the videos.

    Args:
        where: str. "sample" generates videos; "upload" asks for a zip of a
            folder, in Colab; else the path of a folder or zip, also of one on
            Google Drive, which is then mounted.
        results: Path or str. That of `start`: what is uploaded is kept there.
        **sample: Options of the command `sample`, such as `num_videos=40`.

    Returns:
        Path.

    Raises:
        UsageError: If uploading is not possible here.
        DataError: If there is no such folder, or the zip is damaged.
    """
    where = where.strip()
    if where == "sample":
        return _sample(sample)
    if where == "upload":
        return _uploaded(Path(results) / "videos")
    path = Path(where)
    if path.is_relative_to(_DRIVE) and not path.exists():
        _mount()
    if path.suffix.lower() == ".zip" and path.is_file():
        return _unzipped(path, Path(results) / "videos")
    if not where or not path.is_dir():
        raise DataError(
            f"There is no folder '{where}'. Give the path of one with your "
            'videos, "upload" or "sample".'
        )
    return path


def in_colab() -> bool:
    """Whether this is Google Colab."""
    return "google.colab" in sys.modules


def _device(backend: str) -> str:
    """Returns a sentence on what the backend computes on."""
    from har_keras.doctor.backends import nvidia_gpus
    from har_keras.training.devices import chosen_devices

    name, gpus = _BACKENDS[backend], nvidia_gpus()
    if not chosen_devices()[0].startswith("cpu"):
        return f"{name} computes on a GPU: {', '.join(gpus) or 'found'}."
    if gpus:
        return (
            f"There is a GPU, {gpus[0]}, and {name} does not use it: "
            "`har-keras doctor` says why."
        )
    hint = " For one: Runtime > Change runtime type > T4." if in_colab() else ""
    return f"{name} computes on {num_cores()} CPU cores, without a GPU.{hint}"


def _say_errors_in_a_sentence() -> None:
    """Leaves the traceback out where the message says how to mend it."""
    if not in_notebook():
        return
    from IPython import get_ipython

    def say(shell: Any, kind: Any, error: Any, *_: Any, **__: Any) -> None:
        print(f"{kind.__name__}: {printable(error)}", file=sys.stderr)

    get_ipython().set_custom_exc((HarError,), say)


def _mount() -> None:
    """Mounts Google Drive; says so if that is not possible."""
    if not in_colab():
        print("Google Drive is for Colab; elsewhere, the disk keeps results.")
        return
    from google.colab import drive

    try:
        drive.mount(str(_MOUNT))
    except Exception as error:  # of several kinds, such as a refusal
        print(f"Google Drive was not mounted: {error}.")


def _sample(options: dict[str, Any]) -> Path:
    """Returns the folder of sample videos, which it generates once."""
    from har_keras.sample.samples import sample

    words = [
        name if value is True else f"{name.removeprefix('num_')}-{value}"
        for name, value in options.items()
        if value is not False
    ]
    folder = Path("-".join(["sample", *words]).replace("_", "-"))
    if folder.is_dir():
        return folder
    print(_DRAWN)
    return sample(folder, **options)


_DRAWN = (
    "The sample videos are drawn: likely leaks that are named below are people "
    "who move alike, and no leaks."
)


def _uploaded(folder: Path) -> Path:
    """Asks for a zip and unpacks it; what was uploaded before is kept."""
    if folder.is_dir():
        print(f"The videos uploaded before are in {_short(folder)}.")
        return _top(folder)
    if not in_colab():
        raise UsageError(
            '"upload" is for Colab. Elsewhere, put the folder of your videos '
            "beside the notebook and give its path."
        )
    from google.colab import files

    print("Choose a .zip with a folder for each class:")
    names = [name for name in files.upload() if name.lower().endswith(".zip")]
    if len(names) != 1:
        raise DataError(
            f"One .zip with a folder for each class is needed. Received: "
            f"{len(names)}."
        )
    try:
        return _unzipped(Path(names[0]), folder)
    finally:
        Path(names[0]).unlink(missing_ok=True)


def _unzipped(path: Path, folder: Path) -> Path:
    """Returns the folder of videos that was in a zip."""
    from har_keras.files import whole_file

    if folder.is_dir():
        return _top(folder)
    try:
        with zipfile.ZipFile(path) as archive, whole_file(folder) as new:
            members = [x for x in archive.infolist() if _is_wanted(x.filename)]
            _require_room(path, sum(x.file_size for x in members))
            # Absolute names and those with ".." stay inside.
            archive.extractall(new, members)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"'{path}' can't be unpacked: {error}. Make a .zip without a "
            "password."
        ) from error
    return _top(folder)


def _is_wanted(name: str) -> bool:
    return not any(part.startswith(_NO_VIDEOS) for part in name.split("/"))


def _require_room(path: Path, size: int) -> None:
    free = shutil.disk_usage(path.resolve().parent).free
    if size > free:
        raise DataError(
            f"'{path}' holds {size / 1e9:.1f} GB, and {free / 1e9:.1f} GB are "
            "free. Make room, or a smaller .zip."
        )


def _top(folder: Path) -> Path:
    """Returns the folder below those that hold nothing but one folder."""
    inside = list(folder.iterdir())
    if len(inside) == 1 and inside[0].is_dir():
        below = inside[0]
        if any(x.is_dir() or x.suffix == ".csv" for x in below.iterdir()):
            return _top(below)
    return folder


def _short(path: Path) -> str:
    """Returns a path as a notebook in its folder would name it."""
    path = path.absolute()
    home = Path.cwd()
    return str(path.relative_to(home) if path.is_relative_to(home) else path)

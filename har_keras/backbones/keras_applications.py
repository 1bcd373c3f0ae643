"""The image networks of keras.applications, with its ImageNet weights.

Keras downloads a file of weights into its cache once. Here it is looked for,
and downloaded, before any video is read; a file that is given takes its place.
"""

import contextlib
import functools
import hashlib
import http.client
import importlib
import inspect
import logging
import os
import re
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from har_keras.backbones.backbone import (
    Backbone,
    BackboneInfo,
    FrameBackbone,
    Tensor,
)
from har_keras.backbones.keras_applications_table import PUBLISHED, Published
from har_keras.backbones.weight_files import first_line, require_hdf5
from har_keras.config import ClipConfig
from har_keras.errors import (
    DataError,
    EnvironmentFault,
    UsageError,
)
from har_keras.files import whole_file

logger = logging.getLogger("har_keras")

_SECONDS = 20.0  # without a byte, after which a download has failed
_CHUNK = 2**20
_UNKNOWN = Published(file="", image_size=224, parameters=0.0, macs=0.0)


@keras.saving.register_keras_serializable(package="har_keras")
class ReversedChannels(layers.Layer):
    """Turns RGB into BGR, for networks that were trained by Caffe's rules.

    Input shape:
        `(batch_size, height, width, 3)`

    Output shape:
        The same.

    Example:

    >>> [float(x) for x in ReversedChannels()(ops.array([1.0, 2.0, 3.0]))]
    [3.0, 2.0, 1.0]
    """

    def call(self, x: Tensor) -> Tensor:
        return ops.flip(x, axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return input_shape


def names() -> list[str]:
    """Returns the names of this family for `--backbone`.

    Example:

    >>> {"mobilenet-v3-large", "resnet50", "convnext-tiny"} <= {*names()}
    True
    """
    return list(_builders())


def knows(name: str) -> bool:
    """Returns whether a name is one of this family's."""
    return name in _builders()


def info(name: str) -> BackboneInfo:
    """Returns what is known of a backbone without loading it."""
    published = PUBLISHED.get(name, _UNKNOWN)
    return BackboneInfo(
        name,
        kind="frames",
        image_size=published.image_size,
        # Keras Applications as a whole; where a network was taken from other
        # authors, their terms are on that page.
        license="see keras.io/api/applications",
        source="keras.applications (ImageNet)",
        parameters=published.parameters,
        macs=published.macs,
    )


def is_here(name: str) -> bool:
    """Returns whether the weights are in the cache of Keras."""
    published = PUBLISHED.get(name, _UNKNOWN)
    return bool(published.file) and (_cache() / published.file).is_file()


def require(name: str, weights: Path | None) -> None:
    """Raises what `load` would, without reading the weights.

    Weights that are not in the cache of Keras are downloaded.

    Args:
        name: str. One of `names()`.
        weights: Path or None. A file to load instead.

    Raises:
        UsageError: If there is no such file.
        EnvironmentFault: If the weights can't be downloaded.
        DataError: If what was downloaded is damaged.
    """
    if weights is None:
        if not is_here(name):
            _download(name)
    elif not weights.is_file():
        raise UsageError(
            f"--backbone-weights '{weights}' can't be read: there is no such "
            "file."
        )


def load(name: str, weights: Path | None, clip: ClipConfig) -> Backbone:
    """Returns the backbone of a name, with its weights.

    Args:
        name: str. One of `names()`.
        weights: Path or None. A file in the format of the published one, or a
            `.weights.h5` of the network without its head. Defaults to the
            cache of Keras.
        clip: ClipConfig. Pixels of a frame.

    Returns:
        A `FrameBackbone`.

    Raises:
        UsageError: If there is no such file, the frames are too small, or
            the weights are those of another network.
        EnvironmentFault: If the weights can't be downloaded.
        DataError: If the file is damaged.
    """
    require(name, weights)
    network = _loaded(name, weights, clip.crop_size)
    mean, std, is_reversed = scaling(name)
    if is_reversed:
        inputs = keras.Input(network.input_shape[1:])
        network = keras.Model(inputs, network(ReversedChannels()(inputs)))
    return FrameBackbone(network, mean=mean, std=std, info=info(name))


def scaling(name: str) -> tuple[list[float], list[float], bool]:
    """Returns how a network's own `preprocess_input` scales pixels.

    It is read off the function: from black, and from one channel at a time.

    Args:
        name: str. One of `names()`.

    Returns:
        The mean and the standard deviation of red, green and blue, and whether
        the network reads blue first.

    Example:

    >>> scaling("mobilenet-v2")
    ([127.5, 127.5, 127.5], [127.5, 127.5, 127.5], False)
    """
    module = inspect.getmodule(_builders()[name])
    assert module is not None
    pixels = np.concatenate([np.zeros((1, 3)), 255 * np.eye(3)])
    found = module.preprocess_input(
        pixels.reshape(4, 1, 1, 3).astype("float64"), "channels_last"
    ).reshape(4, 3)
    factors = (found[1:] - found[0]) / 255  # by channel read, then written
    is_reversed = not factors[0, 0]
    black = found[0][::-1] if is_reversed else found[0]
    std = 1 / (factors[:, ::-1] if is_reversed else factors).diagonal()
    return (
        [round(float(x), 6) for x in 0.0 - black * std],
        [round(float(x), 6) for x in std],
        is_reversed,
    )


@functools.cache
def _builders() -> dict[str, Callable[..., keras.Model]]:
    """Returns the functions of keras.applications by our names."""
    functions = vars(keras.applications).items()
    found = {_spelled(k): f for k, f in functions if inspect.isfunction(f)}
    return dict(sorted(found.items()))


def _spelled(name: str) -> str:
    """Returns the name of a network in kebab case.

    Example:

    >>> [_spelled(x) for x in ("MobileNetV3Large", "ConvNeXtXLarge", "VGG16")]
    ['mobilenet-v3-large', 'convnext-xlarge', 'vgg16']
    """
    words = name.replace("NeXt", "next").replace("Net", "net")
    return re.sub("(?<=[a-z0-9])(?=[A-Z])", "-", words).lower()


@dataclass  # not frozen: Python sets an exception's traceback
class _Asked(Exception):
    """The file that a network asks for: its name, address and hash."""

    file: str
    address: str
    digest: str


@contextlib.contextmanager
def _instead_of_download(answer: Callable[..., str]) -> Iterator[None]:
    """Answers for `keras.utils.get_file`, which the networks call.

    A network with the published weights is not the one that is built without:
    EfficientNet scales its input otherwise. So Keras must think that it has
    found its own file.
    """
    module: Any = importlib.import_module("keras.src.utils.file_utils")
    own = module.get_file
    module.get_file = answer
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of sizes other than 224
            yield
    finally:
        module.get_file = own


def _asked(name: str) -> _Asked:
    """Returns the file that a network would download."""

    def answer(fname: str, origin: str, **options: Any) -> str:
        digest = options.get("file_hash") or options.get("md5_hash") or ""
        raise _Asked(fname, origin, digest)

    with _instead_of_download(answer):
        try:
            size = PUBLISHED.get(name, _UNKNOWN).image_size
            _built(name, size)
        except _Asked as asked:
            return asked
    raise EnvironmentFault(
        f"keras {keras.__version__} has no weights of {name}. Give the file "
        "with --backbone-weights."
    )


def _built(name: str, size: int) -> keras.Model:
    return _builders()[name](
        weights="imagenet", include_top=False, input_shape=(size, size, 3)
    )


def _loaded(name: str, weights: Path | None, size: int) -> keras.Model:
    """Returns a network with the weights of a file."""
    path = weights or _cache() / PUBLISHED.get(name, _UNKNOWN).file
    if weights is None and not path.is_file():  # not in our table
        path = _cache() / _asked(name).file
    remedy = "Copy it again." if weights else "Remove it to download it again."
    require_hdf5(path, remedy)
    with _instead_of_download(lambda *_, **__: str(path)):
        try:
            return _built(name, size)
        except (ValueError, OSError, KeyError) as error:
            raise _misfit(name, path, size, error) from error


def _misfit(name: str, path: Path, size: int, error: Exception) -> UsageError:
    """Returns the error for frames, or weights, that a network can't take."""
    found = re.search(r"at least (\d+)", str(error))
    if found and "nput size" in str(error):
        return UsageError(
            f"--backbone {name} needs frames of at least {found[1]} pixels. "
            f"Received: --crop-size {size}."
        )
    return UsageError(
        f"The weights in '{path}' are not those of {name} without its head "
        f"({first_line(error)}). Give another file with --backbone-weights."
    )


def _cache() -> Path:
    """Returns the folder in which Keras keeps weights."""
    home = os.environ.get("KERAS_HOME") or Path.home() / ".keras"
    return Path(home).expanduser() / "models"


def _download(name: str) -> None:
    """Downloads the weights of a network, if they are not in the cache.

    Not by Keras, whose download waits for ever, and of whose files some have
    no hash: half a file would be taken for a whole one.
    """
    asked = _asked(name)
    target = _cache() / asked.file
    if target.is_file():
        return
    logger.info("Downloading the weights of %s to '%s'.", name, target)
    try:
        with whole_file(target) as temporary:
            _fetch(asked, temporary)
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise EnvironmentFault(
            f"The weights of --backbone {name} are not here, and could not be "
            f"downloaded ({first_line(reason)}). Put the file "
            f"{asked.file} from {asked.address} into '{target.parent}', or "
            "give it with --backbone-weights."
        ) from error


def _fetch(asked: _Asked, temporary: Path) -> None:
    """Writes what an address has into a file; checks its length and hash."""
    kind = "md5" if len(asked.digest) == 32 else "sha256"
    digest, size = hashlib.new(kind, usedforsecurity=False), 0
    with (
        urllib.request.urlopen(asked.address, timeout=_SECONDS) as source,
        temporary.open("wb") as out,
    ):
        while chunk := source.read(_CHUNK):
            out.write(chunk)
            digest.update(chunk)
            size += len(chunk)
    announced = source.headers.get("Content-Length")
    if announced is not None and int(announced) != size:
        raise OSError(f"{size} of {announced} bytes came")
    if asked.digest and digest.hexdigest() != asked.digest:
        raise DataError(
            f"What {asked.address} sent is not the published file: its hash "
            "is another. Try again, or give the file with --backbone-weights."
        )

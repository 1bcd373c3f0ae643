"""Installed packages, missing extras, and the report of `pip check`."""

import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata

from packaging.requirements import Requirement

PACKAGE = "har_keras"

# Distributions that all install the import package `tensorflow`.
TENSORFLOWS = (
    "tensorflow", "tensorflow-cpu", "tensorflow-cpu-aws", "tensorflow-intel",
    "tensorflow-macos", "tensorflow-rocm", "tf-nightly", "tf-nightly-cpu",
)  # fmt: skip
# Extras for development, not for use.
_DEVELOPMENT = ("dev", "docs", "fuzz", "notebooks", "peers")
_TIMEOUT_SECONDS = 120


def installed(name: str) -> str:
    """Returns the version of a package, "" if it is not installed.

    Example:

    >>> bool(installed("numpy")), installed("no-such-package")
    (True, '')
    """
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def tensorflow_packages() -> list[str]:
    """Returns the installed distributions of TensorFlow; there must be one.

    `tensorflow-intel` is a dependency of `tensorflow` on Windows, not a second
    distribution.
    """
    found = [name for name in TENSORFLOWS if installed(name)]
    if "tensorflow" in found:
        found = [name for name in found if name != "tensorflow-intel"]
    return found


def extras() -> dict[str, list[str]]:
    """Returns the missing packages of each extra of har_keras."""
    try:
        names = metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return {}
    return {
        name: [need for need in _required_by(name) if not installed(need)]
        for name in names
        if name not in _DEVELOPMENT
    }


def _required_by(extra: str) -> Iterator[str]:
    """Yields the names of the packages that an extra adds."""
    for line in metadata.requires(PACKAGE) or []:
        need = Requirement(line)
        marker = need.marker
        if (
            marker
            and marker.evaluate({"extra": extra})
            and not marker.evaluate({"extra": ""})
        ):
            yield need.name


def pip_check() -> list[str] | None:
    """Runs `pip check`.

    Returns:
        A list of str, one line per unmet requirement, such as "tensorflow
        2.21.0 has requirement protobuf>=6.31.1, but you have protobuf
        5.29.6."; None if pip is missing or fails to run.
    """
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pip", "check"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    # Without pip, Python ends with code 1 and a message on stderr alone.
    if done.returncode and not done.stdout.strip():
        return None
    return done.stdout.splitlines() if done.returncode else []

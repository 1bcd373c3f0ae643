"""Which packages are installed, and what they ask of each other."""

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

PACKAGE = "har_keras"

# Packages that all install the one folder `tensorflow`.
_TENSORFLOWS = (
    "tensorflow", "tensorflow-cpu", "tensorflow-cpu-aws", "tensorflow-intel",
    "tensorflow-macos", "tensorflow-rocm", "tf-nightly", "tf-nightly-cpu",
)  # fmt: skip
_NOT_FOR_USE = ("dev", "docs", "notebooks", "peers")
# What a computation stands on; others' quarrels are not ours to report.
_ROOTS = (PACKAGE, *_TENSORFLOWS, "keras", "jax", "jaxlib", "torch", "wandb")


@dataclass(frozen=True)
class UnmetRequirement:
    """A package that asks for another than is installed.

    Args:
        package: str. Who asks.
        wanted: str. For what, such as "protobuf>=6.31.1".
        found: str. What there is, such as "protobuf 5.29.6" or "none".
    """

    package: str
    wanted: str
    found: str

    @property
    def missing(self) -> bool:
        """Whether there is none at all."""
        return self.found == "none"


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
    """Returns the installed packages that bring TensorFlow; one is right.

    `tensorflow-intel` is a part of `tensorflow` on Windows, not a rival.
    """
    found = [name for name in _TENSORFLOWS if installed(name)]
    if "tensorflow" in found:
        found = [name for name in found if name != "tensorflow-intel"]
    return found


def extras() -> dict[str, list[str]]:
    """Returns, by extra of har_keras, the packages it lacks."""
    try:
        names = metadata.metadata(PACKAGE).get_all("Provides-Extra") or []
    except metadata.PackageNotFoundError:
        return {}
    return {
        name: [
            need.name
            for need in _requirements(PACKAGE, extra=name)
            if not installed(need.name)
        ]
        for name in names
        if name not in _NOT_FOR_USE
    }


def unmet_requirements() -> Iterator[UnmetRequirement]:
    """Yields what the packages that compute lack, or have in a wrong version.

    It is what `pip check` says, without the packages that don't matter here.
    """
    for package in _ROOTS:
        for need in _requirements(package):
            names: tuple[str, ...] = (need.name,)
            if canonicalize_name(need.name) == "tensorflow":
                names = _TENSORFLOWS
            versions = {name: installed(name) for name in names}
            found = [f"{name} {v}" for name, v in versions.items() if v]
            fits = any(
                need.specifier.contains(v, prereleases=True)
                for v in versions.values()
                if v
            )
            if not fits:
                wanted = f"{need.name}{need.specifier}"
                yield UnmetRequirement(
                    package, wanted, found[0] if found else "none"
                )


def _requirements(package: str, extra: str = "") -> Iterator[Requirement]:
    """Yields what an installed package asks for here, with or for an extra."""
    try:
        lines = metadata.requires(package) or []
    except metadata.PackageNotFoundError:
        return
    for line in lines:
        try:
            need = Requirement(line)
        except InvalidRequirement:
            continue
        always = need.marker is None or need.marker.evaluate({"extra": ""})
        asked = need.marker is not None and need.marker.evaluate(
            {"extra": extra}
        )
        if (asked and not always) if extra else always:
            yield need

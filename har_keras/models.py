"""`har-keras models`: the pretrained networks, by name.

Nothing is downloaded or built, but for what no table has.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from har_keras import cli
from har_keras.config import ClipConfig
from har_keras.ranges import Metavar
from har_keras.recipes import PRESETS, Preset

if TYPE_CHECKING:
    from har_keras.backbones.backbone import BackboneInfo

_FRAMES = ClipConfig().num_frames


@dataclass(frozen=True)
class ModelsOptions:
    """Lists the pretrained networks for --backbone and --weights.

    With each its parameters, its cost, its licence, and whether its weights
    are on this machine. Nothing is downloaded.
    """

    name: Annotated[str, tyro.conf.Positional, Metavar("[NAME]")] = ""
    """Network to describe. Default: list all."""
    json: bool = False
    """Print JSON instead of a table."""


@dataclass(frozen=True)
class ModelEntry:
    """A pretrained network.

    Args:
        info: BackboneInfo. What is known of it.
        is_here: bool. Whether its weights are on this machine.
        option: str. The option that takes its name.
    """

    info: BackboneInfo
    is_here: bool
    option: str = "--backbone"

    @property
    def macs_of_clip(self) -> float:
        """Billions of multiply-adds for a clip; 0 is not known."""
        single = self.info.kind == "frames"
        return self.info.macs * (_FRAMES if single else 1)

    def as_json(self) -> dict[str, Any]:
        """Returns the entry as a JSON object."""
        return dataclasses.asdict(self.info) | {
            "option": self.option,
            "macs_of_clip": self.macs_of_clip,
            "is_here": self.is_here,
        }


def models(name: str = "") -> list[ModelEntry]:
    """Returns the pretrained networks.

    Args:
        name: str. Any name for `--backbone`. Defaults to all that have one.

    Returns:
        list of ModelEntry; one of a given name.

    Raises:
        UsageError: If there is no network of that name.
        EnvironmentFault: If it is on a hub that can't be reached.
        DataError: If its files are damaged.
    """
    from har_keras.environment import start_backend

    start_backend()
    from har_keras.backbones.catalog import FAMILIES, family_of

    if name in _ON_HUB:  # known without asking the hub
        return [x for x in _initial_weights() if x.info.name == name]
    if name:
        return [_entry(family_of(name), name)]
    backbones = [
        _entry(family, own) for family in FAMILIES for own in family.names()
    ]
    return backbones + list(_initial_weights())


def _entry(family: Any, name: str) -> ModelEntry:
    info, is_here = family.info(name), family.is_here(name)
    if is_here and not (info.parameters and info.macs):
        info = _counted(family, info)
    return ModelEntry(info, is_here)


def _counted(family: Any, info: BackboneInfo) -> BackboneInfo:
    """Returns what is known of a network and its costs, counted."""
    from har_keras.backbones.costs import macs_of, parameters_of
    from har_keras.environment import quiet_libraries

    clip = ClipConfig(num_frames=info.num_frames, crop_size=info.image_size)
    with quiet_libraries():
        backbone = family.load(info.name, None, clip)
        counted = parameters_of(backbone), macs_of(backbone)
    return dataclasses.replace(info, parameters=counted[0], macs=counted[1])


# Of those on the hub that fit a preset; each is for --backbone, too.
_ON_HUB: dict[str, Preset] = {
    "MCG-NJU/videomae-small-finetuned-kinetics": "videomae-s",
    "MCG-NJU/videomae-base": "videomae-b",
    "MCG-NJU/videomae-base-finetuned-kinetics": "videomae-b",
    "MCG-NJU/videomae-large": "videomae-l",
    "google/vivit-b-16x2-kinetics400": "vivit-b-16x2",
    "facebook/timesformer-base-finetuned-k400": "timesformer-b",
}


def _initial_weights() -> Iterator[ModelEntry]:
    """Yields the published video models that `--weights` takes by name."""
    from har_keras.backbones import video_transformer

    for name, preset in _ON_HUB.items():
        info = video_transformer.info_of(
            name, PRESETS[preset] | {"preset": preset}
        )
        is_here = video_transformer.is_here(name)
        yield ModelEntry(info, is_here, "--weights")


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags, and prints the networks."""

    def verb() -> None:
        options = cli.parse(ModelsOptions, argv, verb="models")
        found = models(options.name)
        if options.json:
            print(json.dumps([entry.as_json() for entry in found], indent=1))
        elif options.name:
            print(_described(found[0]))
        else:
            print(_table(found))

    return cli.run_verb(verb)


def _table(entries: Sequence[ModelEntry]) -> str:
    """Returns all networks, those of one source and licence together."""
    lines = [
        f"M: million parameters. GMAC: billion multiply-adds of a clip, of "
        f"{_FRAMES} frames\nwhere frames are read one by one. `here`: the "
        "weights are on this machine."
    ]
    for heading, group in itertools.groupby(entries, _heading):
        lines += ["", *heading, _COLUMNS.format(*_NAMES)]
        lines += [_row(entry) for entry in group]
    lines += ["", "A run, or another model on the hub, is a name, too:"]
    lines += ["har-keras models NAME describes it."]
    return "\n".join(line.rstrip() for line in "\n".join(lines).split("\n"))


_NAMES = ("", "reads", "pixels", "M", "GMAC", "")
_COLUMNS = "  {:42} {:9} {:6} {:>6} {:>6} {:4}"


def _heading(entry: ModelEntry) -> tuple[str, str]:
    source = entry.info.source
    if entry.info.source.startswith("the PyPI"):
        source = "PyPI"
    return f"{entry.option}: {source}", f"Licence: {entry.info.license}"


def _row(entry: ModelEntry) -> str:
    info = entry.info
    reads = "frames" if info.kind == "frames" else f"{info.num_frames} frames"
    return _COLUMNS.format(
        info.name,
        reads,
        str(info.image_size),
        _number(info.parameters),
        _number(entry.macs_of_clip),
        "here" if entry.is_here else "",
    )


def _number(value: float) -> str:
    """Returns a positive number with two or more digits; a dash for 0.

    Example:

    >>> _number(0.384), _number(23.56), _number(1138.6), _number(0)
    ('0.4', '23.6', '1139', '-')
    """
    if not value:
        return "-"
    return f"{value:.1f}" if value < 100 else f"{value:.0f}"


def _described(entry: ModelEntry) -> str:
    """Returns what is known of a network, a line each."""
    info = entry.info
    frames = info.num_frames if info.kind == "clips" else "single"
    sizes = "no other" if info.is_fixed else "or others"
    needs = f" --crop-size {info.image_size}"
    if info.kind == "clips":
        needs += f" --num-frames {info.num_frames} --fps {info.fps or 4:g}"
    facts = {
        "name": info.name,
        "source": info.source,
        "licence": info.license,
        "reads": f"{frames} frames of {info.image_size} pixels, {sizes}",
        "parameters": f"{_number(info.parameters)} million",
        "cost": f"{_number(entry.macs_of_clip)} billion multiply-adds a clip",
        "weights": "on this machine" if entry.is_here else "not here yet",
        "use": "har-keras train VIDEOS --recipe transfer"
        f" --backbone {info.name}{needs}",
    }
    return "\n".join(f"{name:11} {fact}" for name, fact in facts.items())


if __name__ == "__main__":
    sys.exit(main())

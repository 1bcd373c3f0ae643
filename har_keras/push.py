"""`har-keras push`: puts a trained model on Hugging Face's hub."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from har_keras import cli
from har_keras.config import Config, HostsConfig, LoggingConfig, StoreConfig
from har_keras.damaged import read_json
from har_keras.errors import DataError, UsageError
from har_keras.files import temporary_prefix
from har_keras.hub import SCHEME, HubName, hub_address
from har_keras.hub_place import Place, PushedModel
from har_keras.ranges import Metavar
from har_keras.run import Run
from har_keras.terminal import printable, shell_word
from har_keras.toml import write_toml

if TYPE_CHECKING:
    from har_keras.inference.classifier import Classifier

# What is written there stands for names that only this machine knows.
_UNNAMED = "local"
_LONGEST = 96
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]*")


@dataclass(frozen=True)
class PushOptions:
    """Puts a trained model on Hugging Face's hub, private unless --public.

    What is pushed is what loading needs: the model, its options, the names of
    the classes, the calibration, and the model card with its two plots. The
    names of the videos, pictures of them, logs and paths of this machine stay
    here. `har_keras.load` and predict take hf://OWNER/NAME then.

    Needs the extra hub, and a token with the right to write: HF_TOKEN, or
    that of `hf auth login`.
    """

    run: Annotated[Path, tyro.conf.Positional, Metavar("RUN")]
    """The run: a folder that train made."""
    name: Annotated[str, tyro.conf.Positional, Metavar("OWNER/NAME")]
    """The model's name there, of yours or of an organization. What har_keras
    pushed there before stays in its history."""
    public: bool = False
    """Let anyone see and download it."""
    license: Annotated[str, Metavar("LICENSE")] = "unknown"
    """Licence of the model by the hub's names, such as apache-2.0 or cc-by-4.0.
    It depends on that of your videos, which nobody else knows."""
    saved_model: bool = False
    """Push an export for TensorFlow Serving, too, written anew."""


def push(
    run: Run | Path | str,
    name: str,
    *,
    public: bool = False,
    license: str = "unknown",
    saved_model: bool = False,
) -> PushedModel:
    """Puts a trained model on Hugging Face's hub.

    Args:
        run: Run, Path or str. A trained and evaluated run.
        name: str. `owner/name`. What is there must be of `push`, too, and is
            kept in its history.
        public: bool. Whether anyone may see it. Defaults to `False`.
        license: str. That of the model, by the hub's names. Defaults to
            `"unknown"`.
        saved_model: bool. Whether to push an export for TensorFlow Serving,
            too, which is written anew. Defaults to `False`.

    Returns:
        A `PushedModel`.

    Raises:
        UsageError: If the name is wrong, or something else is there.
        DataError: If the run was not finished, or is damaged.
        EnvironmentFault: If there is no token, it lacks the right, or the hub
            can't be reached.
    """
    target = _target(name)
    if not _LICENSE.fullmatch(license):
        raise UsageError(
            "--license must be a name such as apache-2.0, cc-by-4.0 or other. "
            f"Received: {license}."
        )
    opened = run if isinstance(run, Run) else Run.open(run)
    with opened.writing():
        evaluation = _finished(opened)
        there = Place.found(target, public=public)
        with tempfile.TemporaryDirectory(prefix=temporary_prefix()) as folder:
            published = _Published(opened, Run(folder), target.repo, license)
            published.write(evaluation)
            if saved_model:
                published.export()
            return there.filled(Path(folder))


def _target(name: str) -> HubName:
    """Returns the name to push to, checked as the hub does."""
    whole = name if name.startswith(SCHEME) else SCHEME + name
    try:
        found = hub_address(whole)
    except UsageError:
        found = None
    repo = found.repo if found and not found.revision else ""
    if not repo or "--" in repo or ".git" in repo or len(repo) > _LONGEST:
        raise UsageError(
            "Expected OWNER/NAME, of letters, digits, single - and ., _, and "
            f"without a revision. Received: {name}."
        )
    return HubName(repo, scheme=SCHEME)


def _finished(run: Run) -> dict[str, Any]:
    """Returns the figures of a run; raises `DataError` if it has none."""
    if run.is_pretraining:
        raise DataError(
            f"'{run.path}' is a run of pretrain, which has no classes. Push a "
            "run of train that starts from it."
        )
    for file in (run.model_file, run.manifest_file, run.evaluation_file):
        if not file.is_file():
            raise DataError(
                f"'{run.path}' has no {file.name}: it was not finished, or "
                f"not copied whole. Finish it with: {run.resume_command}"
            )
    return read_json(run.evaluation_file)


class _Published:
    """What is pushed of a run, in a folder that loads like one.

    Args:
        run: Run. The run.
        copy: Run. An empty folder.
        repo: str. `owner/name`.
        license: str. That of the model.
    """

    def __init__(self, run: Run, copy: Run, repo: str, license: str) -> None:
        self.run, self.copy = run, copy
        self.repo, self.license = repo, license

    def write(self, evaluation: dict[str, Any]) -> None:
        """Writes the files, and loads them to see that they do.

        Args:
            evaluation: dict. The figures of the run.
        """
        from har_keras.inference.load import (
            class_names_of,
            load,
            start_backend_of,
        )

        run, copy = self.run, self.copy
        start_backend_of(run.path)
        settings = _settings_of_model(run)
        info = _info_of_backbone(settings)
        backbone = _public_backbone(info.get("name", "none"))
        config = self._config(backbone)
        write_toml(config, copy.config_file)
        names = {"class_names": list(class_names_of(run))}
        copy.class_names_file.write_text(json.dumps(names, indent=2) + "\n")
        for name in ("calibration_file", "confusion_file", "curves_file"):
            if (file := getattr(run, name)).is_file():
                shutil.copyfile(file, getattr(copy, name))
        if info.get("name", backbone) == backbone:
            shutil.copyfile(run.model_file, copy.model_file)
        else:
            info["name"] = backbone
            _copy_with(settings, run.model_file, copy.model_file)
        self._write_card(load(copy.path), config, evaluation, backbone)

    def _config(self, backbone: str) -> Config:
        """Returns the run's options, but for those of this machine."""
        from har_keras.inference.load import stored_form

        own = self.run.config()
        weights = own.model.weights
        is_public = weights in ("random", "synthetic-actions")
        changes = {
            "backend": "auto",  # any loads it
            "group_by": "auto",
            "weights": weights if is_public or _exact(weights) else _UNNAMED,
            "backbone": backbone,
            "backbone_weights": None,
        }
        return dataclasses.replace(
            own,
            store=StoreConfig(cache=stored_form(self.run)),
            hosts=HostsConfig(),
            logging=LoggingConfig(),
        ).changed(changes)

    def _write_card(
        self,
        classifier: Classifier,
        config: Config,
        evaluation: dict[str, Any],
        backbone: str,
    ) -> None:
        from har_keras.manifest.manifest import Manifest
        from har_keras.report.evaluation_files import count_videos
        from har_keras.report.model_card import HubCard, model_card

        bases = [_exact(x) for x in (config.model.weights, backbone)]
        base = next((x.repo for x in bases if x), "")
        if known := evaluation.get("backbone"):
            evaluation = {**evaluation, "backbone": {**known, "name": backbone}}
        try:
            text = model_card(
                self.repo.partition("/")[2],
                config,
                evaluation,
                count_videos(Manifest.read(self.run.manifest_file)),
                classifier.model.count_params(),
                HubCard(self.repo, self.license, base),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"'{self.run.evaluation_file}' is damaged, or of an earlier "
                f"version: it lacks {error}. Write it anew with: har-keras "
                f"evaluate {shell_word(self.run.path)}"
            ) from error
        self.copy.card_file.write_text(text, "utf-8", errors="replace")

    def export(self) -> None:
        """Adds a SavedModel, of the copy: it has no other names either."""
        from har_keras.export import export

        export(self.copy)
        shutil.rmtree(self.copy.serving_dir, ignore_errors=True)


def _settings_of_model(run: Run) -> dict[str, Any]:
    """Returns the `config.json` in a model file."""
    try:
        with zipfile.ZipFile(run.model_file) as archive:
            broken = archive.testzip()
            found = json.loads(archive.read("config.json"))
        if broken is None and isinstance(found, dict):
            return found
        reason: object = f"{broken or 'config.json'} in it"
    except (
        KeyError,
        OSError,
        RecursionError,
        RuntimeError,
        ValueError,
        zipfile.BadZipFile,
    ) as error:
        reason = error
    raise DataError(
        f"'{run.model_file}' is damaged ({reason}). Copy it again from where "
        "it was made, or train again."
    )


def _info_of_backbone(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns what a model's settings say of its backbone; {} without one."""
    found: Any = settings
    for key in ("config", "backbone", "config", "info"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}


def _public_backbone(name: str) -> str:
    """Returns a backbone's name, unless it is that of a file here."""
    from har_keras.backbones.catalog import FAMILIES

    known = [x for family in FAMILIES for x in family.names()]
    return name if name in ("none", *known) or _exact(name) else _UNNAMED


def _exact(name: str) -> HubName | None:
    """Returns the name of a model on a hub, where it has its commit."""
    try:
        found = hub_address(SCHEME + name)
    except UsageError:
        return None
    return found if found and found.is_exact else None


def _copy_with(settings: dict[str, Any], model: Path, copy: Path) -> None:
    """Copies a model file, with other settings."""
    with zipfile.ZipFile(model) as old, zipfile.ZipFile(copy, "w") as new:
        for item in old.infolist():
            with old.open(item) as source, new.open(item.filename, "w") as made:
                if item.filename == "config.json":
                    made.write(json.dumps(settings).encode())
                else:
                    shutil.copyfileobj(source, made)


def _summary(pushed: PushedModel) -> str:
    seen = "private" if pushed.is_private else "public, for anyone"
    lines = [
        pushed.url,
        f"It is {seen}: {', '.join(pushed.files)}",
        *([f"Before: {pushed.earlier}"] if pushed.earlier else []),
        "To use it:",
        f"    har-keras predict {pushed.name} VIDEO",
    ]
    return "\n".join(map(printable, lines))


def main(argv: Sequence[str] | None = None) -> int:
    """Reads the flags, pushes and prints where it is."""

    def verb() -> None:
        options = cli.parse(PushOptions, argv, verb="push")
        print(
            _summary(
                push(
                    options.run,
                    options.name,
                    public=options.public,
                    license=options.license,
                    saved_model=options.saved_model,
                )
            )
        )

    return cli.run_verb(verb)


if __name__ == "__main__":
    sys.exit(main())

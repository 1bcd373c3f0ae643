"""The trained model of a run, from its file."""

from typing import Any

from har_keras.errors import DataError
from har_keras.run import Run


def load_model(run: Run) -> Any:
    """Returns the trained classifier of a run, a `keras.Model`.

    Raises:
        DataError: If the run has none.
    """
    if run.is_pretraining:
        raise DataError(
            f"'{run.path}' is a run of pretrain, which tells no classes. Make "
            "a classifier of it with `python -m har_keras.train VIDEOS --init "
            f"{run.path}`."
        )
    return load_any_model(run)


def load_any_model(run: Run) -> Any:
    """Returns the model of a run, a classifier or a masked autoencoder.

    Raises:
        DataError: If the run has none.
    """
    import keras

    import har_keras.model.build
    import har_keras.model.mae  # noqa: F401  (registers the models' classes)

    if not run.model_file.is_file():
        raise DataError(
            f"'{run.path}' has no {run.model_file.name}: its training was "
            "stopped before the end of an epoch. Go on with `python -m "
            f"har_keras.{'pre' * run.is_pretraining}train --resume {run.path}`."
        )
    return keras.models.load_model(run.model_file, compile=False)

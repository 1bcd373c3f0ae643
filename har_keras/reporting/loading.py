"""The trained model of a run, from its file."""

from typing import Any

from har_keras.errors import DataError
from har_keras.run import Run


def load_model(run: Run) -> Any:
    """Returns the trained model of a run, a `keras.Model`.

    Raises:
        DataError: If the run has none.
    """
    import keras

    import har_keras.model.build  # noqa: F401  (registers the models' classes)

    if not run.model_file.is_file():
        raise DataError(
            f"'{run.path}' has no {run.model_file.name}: its training was "
            "stopped before the end of an epoch. Go on with `python -m "
            f"har_keras.train --resume {run.path}`."
        )
    return keras.models.load_model(run.model_file, compile=False)

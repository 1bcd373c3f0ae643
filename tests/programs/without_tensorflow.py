"""Hides TensorFlow, as where only another backend is installed."""

import sys
from importlib.machinery import PathFinder


class WithoutTensorFlow(PathFinder):
    """Finds every module but TensorFlow's."""

    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] == "tensorflow":
            return None
        return PathFinder.find_spec(name, path, target)


def hide():
    """Hides TensorFlow from this process."""
    sys.meta_path[:] = [
        WithoutTensorFlow if x is PathFinder else x for x in sys.meta_path
    ]

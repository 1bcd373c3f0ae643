"""A folder of videos in; a trained, evaluated and served classifier out.

The verbs are modules of their own, `python -m har_keras.train` and the rest,
and are not imported here: importing the package costs nothing.
"""

__version__ = "0.1.0"

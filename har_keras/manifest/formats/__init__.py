"""Annotations of other programs and data sets, read as they are."""

from typing import Literal

FormatName = Literal["manifest", "label-studio", "cvat", "elan", "fiftyone"]
"""The formats that are written, too."""

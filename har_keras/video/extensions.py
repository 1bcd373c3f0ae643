"""Names of video files."""

EXTENSIONS = frozenset(
    ".3gp .asf .avi .flv .gif .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv "
    ".ts .vob .webm .wmv".split()
)
"""Suffixes of video files."""

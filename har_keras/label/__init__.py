"""A page beside a folder of videos: look, cut, name, mend, train."""

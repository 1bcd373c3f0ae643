"""Features of a frozen backbone: computed once, kept beside the frames."""

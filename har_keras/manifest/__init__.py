"""A folder of videos to a manifest: classes, splits, groups, folds."""

"""Synthetic sample videos: animated people, free of copyright.

camera: projects points and solids to polygons. props, scenery: objects and
background. motions, actions: movement of a figure. figures: its appearance.
videos: renders a scene and an action. samples: writes a data set of files.
"""

"""The sample videos: drawn people in motion, free of anyone's rights.

camera: points and solids to flat shapes. props, scenery: what stands around.
motions, actions: how a figure moves. figures: what it looks like. videos: a
scene and an action to frames. samples: many of them as files.
"""

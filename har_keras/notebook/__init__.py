"""What a notebook adds to `VideoClassifier`: places, clips, a camera.

It works in Colab and in any other Jupyter; `notebooks/` uses it.

Example:

```python
import har_keras
from har_keras import notebook

results = notebook.start("first", save_to_drive=True)
videos = notebook.find_videos("upload", results)
clf = har_keras.VideoClassifier.train(videos, results / "run", resume=True)
notebook.show_report(clf.evaluation)
```
"""

from har_keras.notebook.camera import watch_camera
from har_keras.notebook.display import show_report, show_videos
from har_keras.notebook.places import find_videos, start

__all__ = [
    "find_videos",
    "show_report",
    "show_videos",
    "start",
    "watch_camera",
]

import csv
import html.parser
import json

import numpy as np
import pytest

from har_keras.config import Config
from har_keras.evaluation.metrics import evaluate_predictions
from har_keras.manifest.formats.cells import guarded
from har_keras.manifest.manifest import Manifest, Video
from har_keras.report import evaluation_files as results
from har_keras.report.evaluation_files import Results
from har_keras.report.model_card import model_card
from har_keras.run import Run

EVIL = "<script>alert(1)</script>"
NAMES = ("=cmd", EVIL, "walk")
CONFIG = Config().replace(num_frames=4, crop_size=32)


class GreyFrames:
    def frames(self, sha256, indices):
        return np.full((len(indices), 37, 50, 3), 120, "uint8")

    lazy_frames = frames


def video(number, split="test", **changes):
    name = NAMES[number % 3]
    options = {
        "file": f"{split}/{name}/{number}.mp4",
        "class_name": name,
        "split": split,
        "group": str(number),
        "sha256": str(number),
        "kept_frames": 30,
    }
    return Video(**(options | changes))


@pytest.fixture
def made(tmp_path):
    scored = [video(number) for number in range(9)]
    failed = video(9, kept_frames=0, reason="no video <b>stream</b>")
    manifest = Manifest(
        tmp_path, NAMES, (*scored, failed, video(10, split="train"))
    )
    labels = np.array([manifest.label(one) for one in scored])
    probabilities = np.full((9, 3), 0.1)
    # The last three are wrong.
    probabilities[np.arange(9), (labels + (np.arange(9) > 5)) % 3] = 0.8
    figures = evaluate_predictions(
        labels,
        probabilities,
        class_names=NAMES,
        groups=[one.group for one in scored],
        failed=[(failed.file, failed.reason)],
    )
    figures |= {
        "split": "test",
        "controls": {"single_frame": 0.3, "shuffled": 0.4, "reversed": 0.5},
        "versions": {"keras": "3"},
    }
    run = Run(tmp_path / "run")
    run.path.mkdir()
    run.history_file.write_text("epoch,loss,accuracy\n1,1.0,0.5\n")
    found = Results(
        manifest, GreyFrames(), CONFIG, scored, probabilities, figures
    )
    found.write(run, "Run <1>", run.history_file)
    return found, run


class Page(html.parser.HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.words = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        values = dict(attributes)
        self.sources += [
            values[name] for name in ("src", "href") if name in values
        ]

    def handle_data(self, data):
        self.words.append(data)


def test_the_page_needs_nothing_from_elsewhere(made):
    page = Page(made[1].report_file.read_text("utf-8"))
    assert page.sources
    assert all(
        source.startswith(("data:image/", "data:video/mp4;", "#"))
        for source in page.sources
    )
    assert "script" not in page.tags
    assert "b" in page.tags  # Our own, for the truth of a mistake.


def test_names_are_text_and_nothing_else(made):
    text = made[1].report_file.read_text("utf-8")
    assert EVIL not in text
    assert EVIL in "".join(Page(text).words)
    assert "no video <b>stream</b>" in "".join(Page(text).words)
    assert "Run <1>: " not in text


def test_the_page_says_how_many_and_names_what_failed(made):
    words = "".join(Page(made[1].report_file.read_text("utf-8")).words)
    low, high = made[0].figures["accuracy_interval"]
    # Of nine videos the range is the headline, not the accuracy.
    assert f"{100 * low:.0f} % to {100 * high:.0f} % accuracy" in words
    assert "66.7 %" in words
    words = " ".join(words.split())
    # Each figure once.
    assert words.count("6 of 9") == 1
    assert "6 of 9 test videos were classified correctly." in words
    assert words.count("Balanced accuracy") == 1
    assert "1 of 10 videos could not be scored" in words
    assert f"test/{NAMES[0]}/9.mp4" in words
    assert "Mistakes: 3" in words
    assert words.count("✗") == 3


def test_the_table_has_a_line_a_video_and_adds_up(made):
    found, run = made
    with run.videos_file.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["file", "label", "prediction", "'=cmd", EVIL, "walk"]
    assert len(rows) == 10
    correct = sum(row[1] == row[2] for row in rows[1:])
    figures = json.loads(run.evaluation_file.read_text("utf-8"))
    assert correct / 9 == figures["accuracy"]
    shown = np.array([row[3:] for row in rows[1:]], dtype="float64")
    np.testing.assert_array_equal(shown, found.probabilities)


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@a", "\t=1", "\r=1"])
def test_no_cell_is_a_formula(cell):
    assert guarded(cell) == "'" + cell


def test_writing_twice_gives_the_same_bytes(made):
    found, run = made
    files = (run.evaluation_file, run.videos_file, run.report_file)
    before = [file.read_bytes() for file in files]
    found.write(run, "Run <1>", run.history_file)
    assert [file.read_bytes() for file in files] == before


def test_a_file_name_that_is_no_utf8_is_kept(made, tmp_path):
    found, _ = made
    odd = video(0, file="test/walk/\udcff.mp4", class_name="walk")
    changed = Results(
        found.manifest, found.store, CONFIG, [odd, *found.videos[1:]],
        found.probabilities, found.figures,
    )  # fmt: skip
    run = Run(tmp_path / "odd")
    changed.write(run, "odd", tmp_path / "no history.csv")
    assert b"\xff.mp4" in run.videos_file.read_bytes()
    assert run.report_file.is_file()


def test_samples_and_card_are_for_the_run(made):
    found, run = made
    found.write_samples(run, "test")
    assert run.samples_file("train").is_file()
    assert run.samples_file("test").is_file()
    found.write_card(run, 205_923)
    card = run.card_file.read_text("utf-8")
    assert "6 of 9 videos correct" in card
    assert "205,923 parameters" in card
    assert "<script>" not in card


def test_counts_are_by_class_and_split(made):
    counts = results.count_videos(made[0].manifest)
    assert counts["=cmd"] == {
        "train": 0,
        "val": 0,
        "test": 3,
        "not usable": 1,
    }
    assert counts[EVIL]["train"] == 1


def test_the_card_begins_with_what_the_hub_reads(made):
    text = model_card("a: 'b'\n---", CONFIG, made[0].figures, {}, 10)
    empty, metadata, _ = text.split("---\n", 2)
    read = {
        key: json.loads(value) if value[0] in '["' else value
        for key, value in (x.split(": ", 1) for x in metadata.splitlines())
    }
    assert (empty, read["pipeline_tag"]) == ("", "video-classification")
    assert read["license"] == "unknown"
    (index,) = read["model-index"]
    assert index["name"] == "a: 'b'\\n---"
    accuracy, _ = index["results"][0]["metrics"]
    assert accuracy["value"] == round(made[0].figures["accuracy"], 4)


def test_the_card_tells_what_was_changed(made):
    text = model_card("r", CONFIG, made[0].figures, {}, 10)
    assert "`--num-frames 4`" in text
    assert "`--hidden-dim" not in text


def test_the_card_has_no_control_characters_of_options(made):
    config = CONFIG.replace(wandb_project="\x1b[2J")
    text = model_card("r", config, made[0].figures, {}, 10)
    assert r"`--wandb-project \x1b[2J`" in text

"""Annotations with values of the wrong kind: understood, or one sentence."""

import itertools
import types

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import annotations as files

from har_keras.errors import DataError
from har_keras.manifest.folders import find_videos
from har_keras.manifest.formats import labelled
from har_keras.manifest.parts import require_parts

# Fixtures are made once for all examples: each writes all of its files.
BOUNDED = settings(
    max_examples=60, deadline=None, derandomize=True, database=None,
    suppress_health_check=[*HealthCheck],
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(files.WRONG_VALUES),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.text(max_size=8), inner, max_size=3)
        ),
        max_leaves=5,
    ),
)
TEXTS = st.sampled_from(files.WRONG_TEXTS) | st.text(max_size=40)
CELLS = TEXTS | st.integers().map(str) | st.floats().map(str)


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Reads a folder with one file of annotations."""
    header = types.SimpleNamespace(fps=25.0, duration_seconds=3.0)
    monkeypatch.setattr(labelled, "probe", lambda path: header)
    beside = {"train.csv": "classes.txt", "classes.txt": "train.csv"}

    def read_one(name, content):
        files.write_folder(tmp_path, name, content)
        if other := beside.get(name):
            text = files.table_text(files.TABLES[other])
            files.write_folder(tmp_path, other, text)
        found = find_videos(tmp_path)
        require_parts(found.videos)
        return found.videos

    return read_one


def require_sense(read, name, content, value=""):
    """Reads annotations that may be wrong, and checks what comes of it."""
    try:
        found = read(name, content)
    except DataError as error:
        words = str(error)
        assert "\n" not in words
        assert len(words) < 1000
        return
    odd = ("None", "True", "False", "null", "NaN", "nan", "inf")
    for video in found:
        assert video.split in ("", "train", "val", "test")
        assert video.file
        assert video.class_name
        if not isinstance(value, str):
            assert video.class_name not in odd
            assert not video.class_name.startswith(("[", "{"))


@pytest.mark.parametrize("name", [*files.JSON, *files.XML, *files.TABLES])
def test_all_templates_are_read_as_they_are(read, name):
    content = files.JSON.get(name) or files.XML.get(name)
    content = content or files.table_text(files.TABLES[name])
    assert read(name, content)


@pytest.mark.parametrize("name", files.JSON)
@BOUNDED
@given(st.data())
def test_json(read, name, data):
    document = files.JSON[name]
    place = data.draw(st.sampled_from([*files.places(document)]))
    value = data.draw(VALUES)
    require_sense(read, name, files.with_value(document, place, value), value)


@pytest.mark.parametrize("name", files.XML)
@BOUNDED
@given(st.data())
def test_xml(read, name, data):
    text = files.XML[name]
    place = data.draw(st.sampled_from([*files.xml_places(text)]))
    require_sense(read, name, files.xml_with(text, place, data.draw(TEXTS)))


@pytest.mark.parametrize("name", files.TABLES)
@BOUNDED
@given(st.data())
def test_tables_and_lists(read, name, data):
    rows = files.TABLES[name]
    for _ in range(data.draw(st.integers(1, 2))):
        place = data.draw(st.sampled_from(files.table_places(rows)))
        rows = files.table_with(rows, place, data.draw(CELLS))
    require_sense(read, name, files.table_text(rows))


@pytest.mark.slow
@pytest.mark.parametrize("name", [*files.JSON, *files.XML, *files.TABLES])
def test_every_wrong_value_in_every_place(read, name):
    if name in files.JSON:
        document = files.JSON[name]
        for place, value in itertools.product(
            files.places(document), files.WRONG_VALUES
        ):
            content = files.with_value(document, place, value)
            require_sense(read, name, content, value)
    elif name in files.XML:
        text = files.XML[name]
        for place, new in itertools.product(
            files.xml_places(text), files.WRONG_TEXTS
        ):
            require_sense(read, name, files.xml_with(text, place, new))
    else:
        rows = files.TABLES[name]
        for place, new in itertools.product(
            files.table_places(rows), files.WRONG_TEXTS
        ):
            content = files.table_text(files.table_with(rows, place, new))
            require_sense(read, name, content)

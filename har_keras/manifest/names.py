"""What a file name says about the source of a video: person, day, recording.

A name is taken apart into its words and numbers. Some parts say by themselves
what they are ("person03", "P001", "20240102", "seg04"); the others are judged
by how they vary: a source has several videos, in several classes, a running
number has one.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import PurePosixPath

from har_keras.manifest.split_names import split_of

# Letters before a number, and what the number then counts.
_PERSONS = (
    "person persons people pers subject subj sub participant actor performer "
    "volunteer player athlete user signer speaker patient proband vp pid child "
    "kid worker driver student p s u id"
).split()
_RECORDINGS = (
    "recording record rec session sess ses tape video vid movie film source "
    "src home house household apartment room kitchen lab site location loc "
    "place scene street building group grp gp day visit shoot g"
).split()
# Parts that tell takes, cameras and labels of one source apart.
_OTHERS = frozenset(
    "seg segment part pt chunk clip cut piece chapter take trial rep "
    "repetition try attempt shot snippet instance sample sequence seq run no "
    "nr num idx index frame version t r e n c v cam camera view angle ch "
    "channel kinect device sensor action act activity a class label exercise "
    "ex gesture".split()
)
# Words of how, not of whom or where.
_MANNERS = frozenset(
    "left right front back rear side top bottom good bad correct wrong right "
    "slow fast easy hard light dark day night indoor indoors outdoor outdoors "
    "in out raw edited final new old low high hd uhd sd rgb depth ir main wide "
    "f b l r a".split()
)
_NOISE = re.compile(
    r"(?<![^\W_])(?:\d{3,4}p(?:\d{2})?|\d{3,4}x\d{3,4}|[hx]26[45]|hevc|avc|"
    r"[24]k|[us]?hd|\d{2,3}fps|(?:uhd|hd|sd)_\d{3,4}_\d{3,4}_\d+fps|"
    r"edit(?:ed)?|trim(?:med)?|compressed|converted|cropped|resized|final|"
    r"rot(?:ated)?\d{2,3}|flip(?:ped)?|mirror(?:ed)?)(?![^\W_])",
    re.IGNORECASE,
)
_COPY = re.compile(
    r"(?:[-_ ]+(?:copy|kopie|copie|copia|duplicate)(?:[-_ ]*\(?\d{1,2}\)?)?"
    r"|[-_ ]*\(\d{1,2}\)|[ ]+\d)$",
    re.IGNORECASE,
)
_MOST_COPIES = 4
_DATES = (
    re.compile(
        r"(?<!\d)(?P<y>(?:19|20)\d\d)([-_.]?)(?P<m>0[1-9]|1[0-2])\2"
        r"(?P<d>0[1-9]|[12]\d|3[01])(?:[-_ T.]*(?:at )?(?P<h>[01]\d|2[0-3])"
        r"[-_.:h]?[0-5]\d\d*|(?!\d))"
    ),
    re.compile(
        r"(?<!\d)(?P<d>0[1-9]|[12]\d|3[01])([-_.])(?P<m>0[1-9]|1[0-2])\2"
        r"(?P<y>(?:19|20)\d\d)(?:[-_ T.]+(?:at )?(?P<h>[01]\d|2[0-3])"
        r"[-_.:h]?[0-5]\d\d*|(?!\d))"
    ),
    re.compile(
        r"(?<!\d)(?P<y>[12]\d)(?P<m>0[1-9]|1[0-2])(?P<d>0[1-9]|[12]\d|3[01])"
        r"[-_](?P<h>[01]\d|2[0-3])[0-5]\d[0-5]\d(?!\d)"
    ),
)
_EPOCH = re.compile(r"(?<!\d)(1[2-9]\d{8})(?:\d{3})?(?!\d)")
_HEX = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|(?=[a-f]*\d)[0-9a-f]{16,}",
    re.IGNORECASE,
)
_UCF = re.compile(r"(.*_g\d+)_c\d+")
_HMDB = re.compile(
    r"(.+)_[fhlu]_(?:cm|nm)_np\d+_(?:ba|fr|le|ri)_(?:bad|goo|med)_\d+$"
)
_TIMES = re.compile(r"(.+?)[-_](\d+(?:\.\d+)?)[-_](\d+(?:\.\d+)?)$")
_YOUTUBE = re.compile(r"(?:v_|yt-)?([\w-]{11})(?:[-_]\d+(?:\.\d+)?){1,2}$")
_GOPRO = re.compile(r"(?:G[XHLP]\d\d|GOPR)(\d{4})(?!\d)", re.IGNORECASE)
_WORD = re.compile(r"[^\W_]+")
# Letters count by themselves alone: "ralf" and "lab" are no row of them.
_WORDS_OF_MANNER = re.compile(
    rf"(?:(?:{'|'.join(sorted(x for x in _MANNERS if len(x) > 1))}"
    r"|(?<![^\W_])[fblra](?![^\W_]))[\W_]*)+"
)
_UNIT = re.compile(r"\d+|[^\W\d_]+")


@dataclass(frozen=True)
class Name:
    """A file name, taken apart.

    Args:
        file: str. The path.
        class_name: str. Its class.
        folders: tuple of str. The folders below that of the class.
        text: str. The rest, without class, size and format.
    """

    file: str
    class_name: str
    folders: tuple[str, ...]
    text: str

    @property
    def stem(self) -> str:
        """The file's name without its ending."""
        return PurePosixPath(self.file).stem

    @property
    def words(self) -> list[str]:
        """Runs of letters and digits but dates, in lower case."""
        return _WORD.findall(_without_dates(self.text).lower())

    @property
    def whole(self) -> str:
        """Folders and text."""
        return "/".join([*self.folders, self.text])


def parsed_name(file: str, class_name: str) -> Name:
    """Takes a file name apart.

    Example:

    >>> name = parsed_name("train/walk/subj01/walk_front_2_720p.mp4", "walk")
    >>> name.folders, name.text
    (('subj01',), 'front_2')
    """
    path = PurePosixPath(file)
    folders = tuple(
        folder
        for folder in path.parts[:-1]
        if _plain(folder) != _plain(class_name) and not split_of(folder)
    )
    text = _NOISE.sub("", _without_class(path.stem, class_name))
    return Name(file, class_name, folders, text.strip(" -_.") or path.stem)


def _plain(text: str) -> str:
    return re.sub(r"[\W_]", "", text.lower())


def _without_class(stem: str, class_name: str) -> str:
    """Cuts the name of the class out, also as BrushHair or brush-hair."""
    letters = [re.escape(letter) for letter in _plain(class_name)]
    if len(letters) < 2:
        return stem
    pattern = rf"(?<![^\W\d_]){'[-_ ]?'.join(letters)}(?:ing|s)?(?![^\W\d_])"
    shorter = re.sub(pattern, "", stem, flags=re.IGNORECASE)
    camel = "".join(letters).capitalize()
    shorter = re.sub(rf"(?<=[a-z]){camel}(?:ing|s)?(?![a-z])", "_", shorter)
    return re.sub(r"([-_. ])[-_. ]+", r"\1", shorter)


def _without_dates(text: str) -> str:
    for pattern in _DATES:
        text = pattern.sub("", text)
    return text


Key = Callable[[Name], str]


@dataclass(frozen=True)
class Part:
    """A part of names that may tell sources apart.

    Args:
        what: str. Where it stands, for people.
        meaning: str. What it is taken for, such as "person".
        key: Callable. From a name to the source; "" where it has none.
        is_named: bool. Whether the name itself says what the part is.
        is_shared: bool. Whether one value in two classes is one source.
        place: int or None. Words before it, for a single word.
    """

    what: str
    meaning: str
    key: Key
    is_named: bool = True
    is_shared: bool = True
    place: int | None = None


def _counted(letters: str) -> Key:
    """Returns the key "letters and number", such as person03."""
    pattern = re.compile(
        rf"(?<![^\W\d_])({letters})[-_ ]?0*(\d+)(?!\d)", re.IGNORECASE
    )

    def key(name: Name) -> str:
        found = pattern.search(_without_dates(name.whole))
        return f"{found[1].lower()}{int(found[2]):02}" if found else ""

    return key


def _moment(name: Name) -> tuple[str, str] | None:
    """Returns the day and hour that a name holds, of a clock or an epoch."""
    for pattern in _DATES:
        if found := pattern.search(name.whole):
            year = f"20{found['y']}"[-4:]
            return f"{year}-{found['m']}-{found['d']}", found["h"] or ""
    if found := _EPOCH.search(name.text):
        moment = datetime.fromtimestamp(int(found[1]), UTC)
        return moment.strftime("%Y-%m-%d"), moment.strftime("%H")
    return None


def _day(name: Name) -> str:
    moment = _moment(name)
    return moment[0] if moment else ""


def _hour(name: Name) -> str:
    moment = _moment(name)
    return f"{moment[0]} {moment[1]} h" if moment and moment[1] else ""


def _segment(words: str) -> re.Pattern[str]:
    return re.compile(
        rf"(.*[^-_. ])[-_. ]*(?<![^\W\d_])(?:{words})[-_. #]*\(?\d+(?!\d)",
        re.IGNORECASE,
    )


def _text(name: Name) -> str:
    return name.text


def _matching(
    pattern: re.Pattern[str], text: Key = lambda name: name.stem
) -> Key:
    def key(name: Name) -> str:
        found = pattern.match(text(name))
        return found[1] if found else ""

    return key


def _timed(name: Name) -> str:
    """Returns what stands before a start and an end, as in Kinetics."""
    found = _TIMES.match(name.stem)
    if not found or _moment(name) or float(found[2]) >= float(found[3]):
        return ""
    return found[1] if len(found[2]) > 3 or "." in found[2] else ""


def _gopro(name: Name) -> str:
    found = _GOPRO.match(name.stem)
    return f"GoPro {found[1]}" if found else ""


def looks_random(identifier: str) -> bool:
    """Returns whether letters, digits and cases alternate without a pattern.

    Example:

    >>> [looks_random(text) for text in ("dQw4w9WgXcQ", "recording_1")]
    [True, False]
    """
    kinds = [
        "_" if not c.isalnum() else "0" if c.isdigit() else c.isupper()
        for c in identifier
    ]
    changes = sum(a != b for a, b in pairwise(kinds))
    return changes >= 4


YOUTUBE = Part("the YouTube ID", "video", _matching(_YOUTUBE))
NAMED_PARTS = (
    Part("'_g01_c01' of UCF101", "recording", _matching(_UCF)),
    Part("the title, as in HMDB51", "film", _matching(_HMDB, _text)),
    Part("before start and end", "video", _timed),
    Part("the number after the chapter", "recording", _gopro),
)
"""Schemes that are known by their form alone."""


def counted_parts(names: Sequence[Name], person: bool) -> Iterator[Part]:
    """Yields parts such as `person03` that occur in names, best first."""
    letters = _PERSONS if person else _RECORDINGS
    text = "\n".join(_without_dates(name.whole) for name in names).lower()
    for word in letters:
        if re.search(rf"(?<![^\W\d_]){word}[-_ ]?\d", text):
            meaning = "person" if person else "recording"
            if word in ("day", "visit"):
                meaning = "day"
            yield Part(f"'{word}' and number", meaning, _counted(word))


DAY = Part("the date", "day", _day)
HOUR = Part("date and hour", "hour", _hour)
SEGMENT = Part(
    "what is before '-seg01'",
    "recording",
    _matching(_segment("seg|segment|part|pt|chunk|piece|chapter"), _text),
)
PIECE = Part(
    "what is before 'clip' and number",
    "recording",
    _matching(_segment("clip|cut|snippet|shot|split|take|scene"), _text),
)


def folder_parts(names: Iterable[Name]) -> Iterator[Part]:
    """Yields the folders below that of the class, from the outermost on."""
    deepest = max((len(name.folders) for name in names), default=0)
    for depth in range(1, deepest + 1):

        def key(name: Name, depth: int = depth) -> str:
            folders = name.folders[:depth]
            last = folders[-1].lower() if len(folders) == depth else ""
            word = _UNIT.findall(last)[:1]
            kept = last and last not in _MANNERS and word not in _OTHER_WORDS
            return "/".join(folders) if kept else ""

        yield Part("the folder", "source", key, is_named=False)


_OTHER_WORDS = [[word] for word in _OTHERS]


def word_parts(names: Sequence[Name]) -> Iterator[Part]:
    """Yields single words and starts of names of any form."""
    most = max((len(name.words) for name in names), default=0)
    for place in range(min(most, 6)):

        def word(name: Name, place: int = place) -> str:
            words = name.words
            found = words[place] if place < len(words) else ""
            return "" if _says_no_source(found) else found

        what = f"part {place + 1}"
        yield Part(what, "source", word, is_named=False, place=place)
    for place in range(min(most, 6)):

        def letters(name: Name, place: int = place) -> str:
            words = name.words
            units = _UNIT.findall(words[place]) if place < len(words) else []
            first = units[0] if len(units) > 1 else ""
            known = first.isdigit() or first in _OTHERS or first in _MANNERS
            return "" if known or len(first) < 2 else first

        what = f"the letters of part {place + 1}"
        yield Part(what, "source", letters, is_named=False, place=place)
    for cut in range(1, 4):

        def start(name: Name, cut: int = cut) -> str:
            ends = [unit.start() for unit in _UNIT.finditer(name.text)]
            ends = _cuts(name.text, ends)
            kept = name.text[: ends[-cut]] if len(ends) > cut else ""
            kept = kept.rstrip(" -_.([#").lower()
            return "" if _WORDS_OF_MANNER.fullmatch(kept) else kept

        yield Part(START, "source", start, is_named=False)


START = "the start of the name"


def _cuts(text: str, ends: list[int]) -> list[int]:
    """Returns where the name may be cut: before numbers and single letters."""
    kept = [0]
    for place, end in enumerate(ends[1:], 1):
        unit = text[end : ends[place + 1] if place + 1 < len(ends) else None]
        unit = unit.strip(" -_.()[]#")
        is_letter = len(unit) == 1 and unit.isalpha()
        if unit.isdigit() or is_letter:
            # A word that only names the number goes with it.
            before = text[ends[place - 1] : end].strip(" -_.()[]#").lower()
            joint = place > 1 and before in _OTHERS
            kept.append(ends[place - 1] if joint else end)
    return sorted(set(kept))


def _says_no_source(word: str) -> bool:
    units = _UNIT.findall(word)
    return (
        word in _MANNERS
        or word in _OTHERS
        or (len(units) == 2 and units[0] in _OTHERS)
    )


def has_digit(word: str) -> bool:
    """Returns whether a part of a name may be a number that counts files."""
    return any(letter.isdigit() for letter in word)


def _original(stem: str, known: Mapping[str, str]) -> str:
    """Returns the name that a copy was made of, if there is such a file."""
    shorter, cut = stem, _without_copy(stem)
    while cut != shorter and cut not in known:
        shorter, cut = cut, _without_copy(cut)
    return cut if cut != stem and cut in known else ""


def _without_copy(stem: str) -> str:
    shorter = _COPY.sub("", stem)
    if shorter == stem:
        shorter = re.sub(rf"[-_ ]{_NOISE.pattern}$", "", stem, flags=re.I)
    return re.sub(r"(?<=IMG_)E(?=\d{4}$)", "", shorter)


def copies(names: Sequence[Name]) -> Mapping[str, str]:
    """Returns the original of files that are copies by name, by file.

    `a (2).mp4` and `a - Copy.mp4` are copies only beside `a.mp4`, and only a
    few of them: a program may number all files of a folder so.

    Example:

    >>> some = ["w/a.mp4", "w/a (1).mp4", "w/clip (1).mp4", "w/clip (2).mp4"]
    >>> dict(copies([parsed_name(file, "w") for file in some]))
    {'w/a (1).mp4': 'w/a.mp4'}
    """
    by_stem = {
        str(PurePosixPath(name.file).with_suffix("")): name.file
        for name in reversed(names)
    }
    found: dict[str, list[str]] = {}
    for stem, file in by_stem.items():
        original = _original(stem, by_stem)
        if original:
            found.setdefault(by_stem[original], []).append(file)
    return {
        copy: original
        for original, files in found.items()
        if len(files) <= _MOST_COPIES
        for copy in files
    }

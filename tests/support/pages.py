"""README, the documentation, and the commands and code on them."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
FILES = [
    ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data" / "README.md",
    *sorted(DOCS.rglob("*.md")),
]  # fmt: skip
TEXTS = {
    file.relative_to(ROOT).as_posix(): file.read_text("utf-8") for file in FILES
}

_FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_STARTERS = ("srun", "exec")
_PROGRAMS = ("har-keras", "python -m har_keras", "py -m har_keras")


def blocks(*languages):
    """Yields the name of a page and a code block, of some languages."""
    for name, text in TEXTS.items():
        for language, block in _FENCED.findall(text):
            if language in languages:
                yield name, block


def prose(text):
    """Returns a page without its code blocks."""
    return _FENCED.sub("", text)


def shell_commands():
    """Yields the name of a page and the words of a command on it.

    Of blocks of bash all commands, of other blocks and of the text only those
    of this package.
    """
    for name, block in blocks("bash"):
        yield from ((name, words) for words in commands(block))
    for name, block in blocks("text", "yaml"):
        own = [x for x in commands(_plain(block)) if verb_of(x)]
        yield from ((name, words) for words in own)
    for name, text in TEXTS.items():
        for code in re.findall(r"`([^`]+)`", prose(text)):
            code = " ".join(code.split())
            own = code.startswith(tuple(f"{x} " for x in _PROGRAMS))
            if own and "<Tab>" not in code:
                yield from ((name, words) for words in commands(code))


def commands(block):
    """Yields the words of every command, without what it is redirected to."""
    for line in block.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        try:
            words = list(lexer)
        except ValueError:  # prose has apostrophes
            continue
        command = []
        for word in [*words, ";"]:
            if word in ("&&", "||", ";", "|"):
                yield from [command] if command else []
                command = []
            else:
                command.append(word)


def _plain(block):
    """Returns a script with its variables filled in."""
    for variable, value in {
        "$each": "--host-index 0 --coordinator host0:1234",
        '"$run"': "runs/first", "$run": "runs/first",
    }.items():  # fmt: skip
        block = block.replace(variable, value)
    return block


def verb_of(words):
    """Returns the verb and its arguments, or None for another program."""
    words = list(words)
    if words and words[0] in _STARTERS:
        words = words[1:]
    if ">" in words:
        words = words[: words.index(">")]
    if words[:2] in (["python", "-m"], ["py", "-m"]):
        module = words[2].split(".")
        if module[0] != "har_keras":
            return None
        words = ["har-keras", *module[1:], *words[3:]]
    if not words or words[0] != "har-keras":
        return None
    return (words[1], words[2:]) if len(words) > 1 else ("", [])


def slug(heading):
    """Returns the anchor of a heading, as Python-Markdown makes it."""
    text = re.sub(r"[^\w\s-]", "", heading.replace("`", "")).strip().lower()
    return re.sub(r"[-\s]+", "-", text)


def anchors(text):
    """Returns the anchors of a page."""
    found = re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE)
    return {slug(heading) for heading in found}


def links(text):
    """Yields the targets of a page's links and pictures."""
    yield from re.findall(r"\]\(([^)\s]+)[^)]*\)", prose(text))
    yield from re.findall(r'src="([^"]+)"', prose(text))

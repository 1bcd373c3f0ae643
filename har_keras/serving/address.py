"""Where a model is served, and what a server's errors mean."""

import re
import urllib.parse
from dataclasses import dataclass

from har_keras.errors import DataError, EnvironmentFault, HarError, UsageError


@dataclass(frozen=True)
class Address:
    """Where a model is served, read from a URL.

    Args:
        scheme: str. "http", "https" or "grpc".
        host: str. Name or number, and port.
        model: str. The model's name on the server.
        version: int or None. Which version; None is the newest.
        label: str. Or its label; empty is none.

    Example:

    >>> Address.read("http://localhost:8501/v1/models/har/versions/2")
    Address(scheme='http', host='localhost:8501', model='har', version=2,
    label='')
    >>> Address.read("grpc://localhost:8500/har").model
    'har'
    """

    scheme: str
    host: str
    model: str
    version: int | None = None
    label: str = ""

    @classmethod
    def read(cls, url: str) -> "Address":
        """Reads a URL.

        Raises:
            UsageError: If it is none of the forms that are known.
        """
        found = re.fullmatch(
            r"(?:(https?)://([^/]+)/v1/models/|(grpc)://([^/]+)/)([^/:]+)"
            r"(?:/versions/(\d+)|/labels/([^/:]+))?(?::predict)?/?",
            url,
        )
        if not found:
            raise UsageError(
                f"'{url}' is no address of a model. It should look like "
                "http://HOST:8501/v1/models/har or grpc://HOST:8500/har, with "
                "/versions/N or /labels/NAME at the end to choose a version."
            )
        web, web_host, grpc, grpc_host, model, version, label = found.groups()
        return cls(
            web or grpc,
            web_host or grpc_host,
            urllib.parse.unquote(model),
            int(version) if version else None,
            urllib.parse.unquote(label or ""),
        )


class Busy(Exception):
    """The server can't take the request now; the same one may be sent again.

    Args:
        reason: str. What came back instead of an answer.
    """


def refusal(code: str, text: str, address: Address) -> Exception:
    """Returns what to raise for an error of the server, in a sentence.

    Args:
        code: str. The gRPC name of the error.
        text: str. The server's words.
        address: Address. Where the request went.
    """
    words = server_words(text)
    if code in ("UNAVAILABLE", "RESOURCE_EXHAUSTED"):
        return Busy(words or code)
    sentences: dict[str, tuple[type[HarError], str]] = {
        "NOT_FOUND": (
            UsageError,
            f"The server at {address.host} doesn't serve "
            f"{_named(address)}: {words}.",
        ),
        "INVALID_ARGUMENT": (
            DataError,
            f"The server at {address.host} refused the clips: {words}.",
        ),
        "TOO_LARGE": (
            DataError,
            f"The request is larger than the server at {address.host} takes. "
            "Send fewer clips at once, or JPEG frames.",
        ),
        "DEADLINE_EXCEEDED": (
            EnvironmentFault,
            f"The server at {address.host} did not answer in time. Send fewer "
            "clips at once, or wait longer.",
        ),
    }
    kind, sentence = sentences.get(
        code,
        (
            EnvironmentFault,
            f"The server at {address.host} failed ({code}): {words}.",
        ),
    )
    return kind(sentence)


def server_words(text: str) -> str:
    """Returns the sentence in a server's message, without its node names.

    Example:

    >>> server_words("assertion failed: [Too dark.] [[{{node Assert}}]]")
    'Too dark'
    """
    asserted = re.search(r"assertion failed: \[(.+?)\]", text, re.DOTALL)
    words = asserted[1] if asserted else text.split("[[{{node")[0]
    return " ".join(words.split())[:300].rstrip(". ")


def _named(address: Address) -> str:
    name = f"'{address.model}'"
    if address.version is not None:
        return f"version {address.version} of {name}"
    return f"'{address.label}' of {name}" if address.label else name

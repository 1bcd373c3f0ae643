"""The address of a model on a server, and the errors of a server."""

import re
import urllib.parse
from dataclasses import dataclass

from har_keras.errors import DataError, EnvironmentFault, HarError, UsageError


@dataclass(frozen=True)
class Address:
    """The address of a model on TensorFlow Serving, parsed from a URL.

    Args:
        scheme: str. "http", "https" or "grpc".
        host: str. Host name or IP address, and port.
        model: str. The model's name on the server.
        version: int or None. Version of the model; None is the latest.
        label: str. Version label, instead of `version`; "" is none.

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
        """Parses a URL.

        Raises:
            UsageError: If the URL has an unknown form.
        """
        if re.match(r"\w+://[^/]*@", url):
            raise UsageError(  # which is not printed
                "The address of a model has no user or password in it. Set "
                "the environment variable HAR_KERAS_API_KEY to the key of a "
                "server."
            )
        found = re.fullmatch(
            r"(?:(https?)://([^/]+)/v1/models/|(grpc)://([^/]+)/)([^/:]+)"
            r"(?:/versions/(\d+)|/labels/([^/:]+))?(?::predict)?/?",
            url,
        )
        if not found or not _is_host(found[2] or found[4]):
            raise UsageError(
                f"'{url}' is not the address of a model. Expected "
                "http://HOST:8501/v1/models/har or grpc://HOST:8500/har, "
                "optionally followed by /versions/N or /labels/NAME."
            )
        web, web_host, grpc, grpc_host, model, version, label = found.groups()
        return cls(
            web or grpc,
            web_host or grpc_host,
            urllib.parse.unquote(model),
            int(version) if version else None,
            urllib.parse.unquote(label or ""),
        )


def _is_host(text: str) -> bool:
    """Whether a text is a host, by name or number, and maybe a port."""
    if re.search(r"[\x00-\x20\x7f]", text):
        return False
    try:
        parts = urllib.parse.urlsplit(f"//{text}")
        _ = parts.port
        return bool(parts.hostname and parts.hostname.encode("idna"))
    except ValueError:
        return False


class Busy(Exception):
    """A transient failure: the same request can be retried.

    Args:
        reason: str. The error of the server or of the connection.
    """


def refusal(code: str, text: str, address: Address) -> Exception:
    """Returns the exception for an error response of a server.

    Args:
        code: str. gRPC status code, such as "NOT_FOUND".
        text: str. The server's error message.
        address: Address. The address of the request.

    Returns:
        A `HarError`, or `Busy` if the error is transient.
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
            f"The server at {address.host} rejected the clips: {words}.",
        ),
        "UNAUTHENTICATED": (
            UsageError,
            f"The server at {address.host} asks for an API key: set the "
            "environment variable HAR_KERAS_API_KEY to it.",
        ),
        "TOO_LARGE": (
            DataError,
            f"The request exceeds the size limit of {address.host}. Send "
            "fewer clips per request, or JPEG frames.",
        ),
        "DEADLINE_EXCEEDED": (
            EnvironmentFault,
            f"The request to {address.host} timed out. Send fewer clips per "
            "request, or raise the timeout.",
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


def no_prediction(address: Address, why: str) -> DataError:
    """Returns the exception for a response that is no prediction.

    Args:
        address: Address. The address of the request.
        why: str. What is wrong with it, such as "it has no outputs".
    """
    return DataError(
        f"The response of {address.host} is no prediction of a model that "
        f"har_keras exported: {why}. Check the address and the model there."
    )


def server_words(text: str) -> str:
    """Returns a server's error message without the names of graph nodes.

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

"""A stand-in for Hugging Face's hub, on loopback, and models to put there.

It answers the two paths that huggingface_hub asks for a model, with the headers
that the hub documents; weights are behind a redirect to another host, as there.
"""

import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import numpy as np
import safetensors.numpy

LAYERS, DIM, MLP, CLASSES = 2, 16, 32, 3


@dataclass
class Model:
    """A repository: its files by commit, and its branches and tags."""

    commits: dict
    refs: dict
    gated: bool = False
    answers: dict = field(default_factory=dict)
    """What is sent in place of a file's content, by name."""

    @classmethod
    def of(cls, files, **options):
        commit = commit_of(files)
        return cls({commit: files}, {"main": commit}, **options)

    def push(self, files, ref="main"):
        self.refs[ref] = commit_of(files)
        self.commits[self.refs[ref]] = files


def commit_of(files):
    text = json.dumps({name: digest(data) for name, data in files.items()})
    return hashlib.sha1(text.encode()).hexdigest()


def digest(data):
    return hashlib.sha256(data).hexdigest()


class StandInHub(ThreadingHTTPServer):
    """Serves `models` by name, and keeps the paths it was asked in `log`."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models, self.log, self.headers = {}, [], []
        self.down = False
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def endpoint(self):
        return f"http://127.0.0.1:{self.server_port}"

    @property
    def files_asked(self):
        """Names of the files that were asked for."""
        found = (re.search("/resolve/[^/]+/(.+)", path) for path in self.log)
        return {match[1] for match in found if match}

    def close(self):
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers_in_json = re.compile(
        r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?"
    )
    file = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
    content = re.compile(r"/content/([^/]+/[^/]+)/([^/]+)/(.+)")

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.server.log.append(path)
        self.server.headers.append(str(self.headers))
        if self.server.down:
            return self._send(500)
        if "wrong" in self.headers.get("Authorization", ""):
            text = "Invalid credentials in Authorization header"
            return self._send(401, **{"X-Error-Message": text})
        for pattern, answer in (
            (self.answers_in_json, self._model),
            (self.file, self._file),
            (self.content, self._content),
        ):
            if match := pattern.fullmatch(path):
                return answer(*(x and unquote(x) for x in match.groups()))
        return self._send(404)

    do_HEAD = do_GET

    def _model(self, name, ref):
        found = self._commit(name, ref or "main")
        if found:
            model, commit = found
            files = [{"rfilename": file} for file in model.commits[commit]]
            answer = {"id": name, "sha": commit, "siblings": files}
            self._send(200, json.dumps(answer).encode())

    def _file(self, name, ref, file):
        found = self._commit(name, ref)
        if not found:
            return
        model, commit = found
        headers = {"X-Repo-Commit": commit}
        if model.gated:
            self._send(403, code="GatedRepo")
        elif file not in model.commits[commit]:
            self._send(404, code="EntryNotFound", **headers)
        elif file.endswith(".safetensors"):
            data = model.commits[commit][file]
            place = f"http://localhost:{self.server.server_port}/content"
            headers["X-Linked-Etag"] = f'"{digest(data)}"'
            headers["X-Linked-Size"] = str(len(data))
            headers["Location"] = f"{place}/{name}/{commit}/{file}"
            self._send(302, **headers)
        else:
            self._content(name, commit, file, **headers)

    def _content(self, name, commit, file, **headers):
        model = self.server.models[name]
        data = model.commits[commit][file]
        data = model.answers.get(file, data)
        self._send(200, data, ETag=f'"{digest(data)[:40]}"', **headers)

    def _commit(self, name, ref):
        model = self.server.models.get(name)
        if model is None:
            self._send(401, code="RepoNotFound")
            return None
        commit = model.refs.get(ref, ref)
        if commit not in model.commits:
            self._send(404, code="RevisionNotFound")
            return None
        return model, commit

    def _send(self, status, data=b"", code=None, **headers):
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


CONFIGS = {
    "vivit": {
        "hidden_act": "gelu_fast", "tubelet_size": [2, 16, 16],
        "num_frames": 4,
    },
    "videomae": {
        "hidden_act": "gelu", "tubelet_size": 2, "patch_size": 16,
        "num_frames": 4, "use_mean_pooling": True, "layer_norm_eps": 1e-12,
    },
    "timesformer": {
        "hidden_act": "gelu", "patch_size": 16, "num_frames": 4,
        "attention_type": "divided_space_time",
    },
    "vit": {"hidden_act": "gelu", "patch_size": 16},
}  # fmt: skip
SCALING = {"image_mean": [0.3, 0.4, 0.5], "image_std": [0.2, 0.3, 0.4]}


def config_of(family, **changes):
    """Returns the config.json of a tiny model."""
    return {
        "model_type": family, "hidden_size": DIM, "num_hidden_layers": LAYERS,
        "num_attention_heads": 2, "intermediate_size": MLP, "image_size": 32,
        "num_channels": 3, "qkv_bias": True, **CONFIGS[family], **changes,
    }  # fmt: skip


def model_files(family, seed=0, **changes):
    """Returns the files of a tiny model with random weights."""
    arrays = weights_of(family, np.random.default_rng(seed))
    return {
        "config.json": json.dumps(config_of(family, **changes)).encode(),
        "preprocessor_config.json": json.dumps(SCALING).encode(),
        "model.safetensors": safetensors.numpy.save(arrays),
        "pytorch_model.bin": b"a pickle",
        "modeling_custom.py": b"raise SystemExit",
        "README.md": b"# A model",
    }


def weights_of(family, rng):
    """Returns random weights by the names that transformers gives them."""
    patch = (2, 16, 16) if family in ("vivit", "videomae") else (16, 16)
    shapes = {f"{family}.{k}": v for k, v in _embeddings(family, patch).items()}
    for layer in range(LAYERS):
        prefix = f"{family}.encoder.layer.{layer}."
        shapes |= {prefix + k: v for k, v in _layer(family).items()}
    norm = "fc_norm" if family == "videomae" else f"{family}.layernorm"
    shapes |= _dense(norm, DIM) | _dense("classifier", CLASSES, DIM)
    return {
        name: rng.normal(scale=0.1, size=shape).astype("float32")
        for name, shape in shapes.items()
    }


def _embeddings(family, patch):
    shapes = _dense("embeddings.patch_embeddings.projection", DIM, 3, *patch)
    if family == "videomae":  # Its positions are computed.
        return shapes
    shapes["embeddings.cls_token"] = (1, 1, DIM)
    places = 8 if family == "vivit" else 4
    shapes["embeddings.position_embeddings"] = (1, 1 + places, DIM)
    if family == "timesformer":
        shapes["embeddings.time_embeddings"] = (1, 4, DIM)
    return shapes


def _layer(family):
    shapes = {
        **_dense("layernorm_before", DIM),
        **_dense("layernorm_after", DIM),
        **_dense("attention.output.dense", DIM, DIM),
        **_dense("intermediate.dense", MLP, DIM),
        **_dense("output.dense", DIM, MLP),
    }
    inner = "attention.attention"
    if family == "timesformer":
        return {
            **shapes,
            **_dense(f"{inner}.qkv", 3 * DIM, DIM),
            **_dense(f"temporal_{inner}.qkv", 3 * DIM, DIM),
            **_dense("temporal_attention.output.dense", DIM, DIM),
            **_dense("temporal_layernorm", DIM),
            **_dense("temporal_dense", DIM, DIM),
        }
    for name in ("query", "key", "value"):
        shapes |= _dense(f"{inner}.{name}", DIM, DIM)
        if family == "videomae":
            del shapes[f"{inner}.{name}.bias"]
    if family == "videomae":
        shapes |= {f"{inner}.q_bias": (DIM,), f"{inner}.v_bias": (DIM,)}
    return shapes


def _dense(name, *shape):
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}

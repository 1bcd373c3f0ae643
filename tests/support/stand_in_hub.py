"""A stand-in for Hugging Face's hub, on loopback, and models to put there.

It answers the paths that huggingface_hub asks for a model and those by which
it makes one, with the headers that the hub documents; weights are behind a
redirect to another host, as there.
"""

import base64
import hashlib
import importlib
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
    private: bool = False
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
    """Serves `models` by name, and keeps the paths it was asked in `log`.

    Those that change something are in `writes`, too. `tokens` has what it knows
    of the owner of each.
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.models, self.log, self.headers = {}, [], []
        self.writes, self.blobs = [], {}
        self.tokens = {f"hf_{role}": owner(role) for role in ROLES}
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


ROLES = ("write", "read", "fineGrained")


def owner(role):
    """Returns what the hub tells of Ann, in two organizations."""
    orgs = [
        {"name": "lab", "roleInOrg": "write"},
        {"name": "school", "roleInOrg": "read"},
    ]
    return {
        "type": "user", "name": "ann", "orgs": orgs,
        "auth": {"accessToken": {"displayName": "t", "role": role}},
    }  # fmt: skip


def point_client_to(monkeypatch, cache, endpoint, *, offline=False):
    """Sets what huggingface_hub read when it started."""
    constants = importlib.import_module("huggingface_hub.constants")
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {
        "HF_HUB_CACHE": str(cache),
        "HF_HUB_DISABLE_TELEMETRY": True,
        "HF_HUB_DISABLE_XET": True,  # which is a program of its own
        "HF_TOKEN_PATH": str(cache / "no token"),
        "HF_STORED_TOKENS_PATH": str(cache / "no tokens"),
        "ENDPOINT": endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": (
            endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        ),
        "HF_HUB_OFFLINE": offline,
    }.items():
        monkeypatch.setattr(constants, name, value)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    answers_in_json = re.compile(
        r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?"
    )
    file = re.compile(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)")
    content = re.compile(r"/content/([^/]+/[^/]+)/([^/]+)/(.+)")
    whoami = re.compile(r"/api/whoami-v2")
    create = re.compile(r"/api/repos/create")
    validate = re.compile(r"/api/validate-yaml")
    preupload = re.compile(r"/api/models/([^/]+/[^/]+)/preupload/(.+)")
    batch = re.compile(r"/([^/]+/[^/]+)\.git/info/lfs/objects/batch")
    upload = re.compile(r"/upload/([0-9a-f]+)")
    commit = re.compile(r"/api/models/([^/]+/[^/]+)/commit/(.+)")

    def do_GET(self):
        self._answer(
            (self.whoami, self._whoami),
            (self.answers_in_json, self._model),
            (self.file, self._file),
            (self.content, self._content),
        )

    do_HEAD = do_GET

    def do_POST(self):
        self._body = self._received()
        self._answer(
            (self.validate, self._validate),
            (self.create, self._create),
            (self.preupload, self._preupload),
            (self.batch, self._batch),
            (self.upload, self._upload),
            (self.commit, self._take),
        )

    do_PUT = do_POST

    def _answer(self, *answers):
        path = self.path.partition("?")[0]
        self.server.log.append(path)
        self.server.headers.append(str(self.headers))
        if self.server.down:
            return self._send(500)
        if "wrong" in self.headers.get("Authorization", ""):
            text = "Invalid credentials in Authorization header"
            return self._send(401, **{"X-Error-Message": text})
        for pattern, answer in answers:
            if match := pattern.fullmatch(path):
                if self.command in ("POST", "PUT"):
                    self.server.writes.append(path)
                return answer(*(x and unquote(x) for x in match.groups()))
        return self._send(404)

    def _received(self):
        """Returns the content of a request, of a known length or in chunks."""
        if length := self.headers.get("Content-Length"):
            return self.rfile.read(int(length))
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    @property
    def _owner(self):
        """What is known of who asks; None if it is nobody."""
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        return self.server.tokens.get(token)

    def _json(self, answer, status=200):
        self._send(status, json.dumps(answer).encode())

    def _whoami(self):
        return self._json(self._owner) if self._owner else self._send(401)

    def _validate(self):
        text = json.loads(self._body)["content"]
        if '"license": "nonsense"' in text or 'license: "nonsense"' in text:
            errors = [{"message": '"license" must be one of [apache-2.0]'}]
            return self._json({"errors": errors, "warnings": []}, 400)
        return self._json({"errors": [], "warnings": []})

    def _create(self):
        asked = json.loads(self._body)
        name = f"{asked.get('organization') or 'ann'}/{asked['name']}"
        if self._owner["auth"]["accessToken"]["role"] == "fineGrained":
            return self._send(403, **{"X-Error-Message": "no right to create"})
        if name in self.server.models:
            return self._json({"error": "You already created it"}, 409)
        private = asked.get("private") or asked.get("visibility") == "private"
        model = Model.of({".gitattributes": b"*.keras lfs"}, private=private)
        self.server.models[name] = model
        return self._json({"url": f"{self.server.endpoint}/{name}"})

    def _preupload(self, name, ref):
        files = [
            {
                "path": file["path"], "shouldIgnore": False,
                "uploadMode": _mode(file["path"]),
            }
            for file in json.loads(self._body)["files"]
        ]  # fmt: skip
        self._json({"files": files})

    def _batch(self, name):
        objects = json.loads(self._body)["objects"]
        for item in objects:
            place = f"{self.server.endpoint}/upload/{item['oid']}"
            item["actions"] = {"upload": {"href": place}}
        self._json({"transfer": "basic", "objects": objects})

    def _upload(self, content):
        if digest(self._body) != content:
            return self._send(400)
        self.server.blobs[content] = self._body
        return self._send(200)

    def _take(self, name, ref):
        """Makes a commit of what was sent."""
        model = self.server.models[name]
        head, *changes = map(json.loads, self._body.splitlines())
        before = head["value"].get("parentCommit")
        if before not in (None, model.refs[ref]):
            text = "A commit has happened since."
            return self._send(412, **{"X-Error-Message": text})
        files = dict(model.commits[model.refs[ref]])
        for change in changes:
            value = change["value"]
            if change["key"] == "deletedFile":
                del files[value["path"]]
            elif change["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            else:
                files[value["path"]] = base64.b64decode(value["content"])
        model.push(files, ref)
        commit = model.refs[ref]
        page = f"{self.server.endpoint}/{name}/commit/{commit}"
        return self._json({"commitUrl": page, "commitOid": commit})

    def _model(self, name, ref):
        found = self._commit(name, ref or "main")
        if found:
            model, commit = found
            files = [{"rfilename": file} for file in model.commits[commit]]
            answer = {"id": name, "sha": commit, "siblings": files}
            self._json(answer | {"private": model.private})

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
        elif _mode(file) == "lfs":
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
        if model is None or (model.private and not self._owner):
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
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_):
        pass


def _mode(file):
    return "lfs" if file.endswith((".safetensors", ".keras")) else "regular"


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

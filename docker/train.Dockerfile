# Training and every other command, as another user than root. Build it in the
# folder above, for a CPU or, with the libraries of CUDA, for a GPU of NVIDIA:
#   docker build --file docker/train.Dockerfile --tag har_keras-train .
#   docker build --file docker/train.Dockerfile --build-arg DEVICE=gpu \
#     --tag har_keras-train:gpu .
# In the folder that has videos/, a run then comes into runs/:
#   docker run --rm --user "$(id -u):$(id -g)" \
#     --volume "$PWD/videos:/data/videos:ro" --volume "$PWD/runs:/data/runs" \
#     --volume har_keras-cache:/data/cache har_keras-train train videos
# A GPU is given with --gpus all; the host needs NVIDIA's driver and container
# toolkit, and nothing else of CUDA.
ARG DEVICE=cpu

FROM python:3.11.13-slim-bookworm AS cpu
COPY docker/train-requirements.txt /build/requirements.txt
RUN python -m venv /venv \
    && /venv/bin/pip install --no-cache-dir --only-binary :all: \
       --requirement /build/requirements.txt

# The libraries of CUDA in the versions that this TensorFlow was built for.
FROM cpu AS gpu
RUN /venv/bin/pip install --no-cache-dir --only-binary :all: \
    --constraint /build/requirements.txt "tensorflow[and-cuda]==2.21.0"

FROM ${DEVICE} AS build
COPY pyproject.toml README.md LICENSE /build/
COPY har_keras /build/har_keras
RUN /venv/bin/pip install --no-cache-dir --no-deps /build

FROM python:3.11.13-slim-bookworm
COPY --from=build /venv /venv
# Whoever --user names may write to the cache and to new runs.
RUN useradd --system --uid 10001 --no-create-home --home-dir /data/cache \
       --shell /usr/sbin/nologin har \
    && mkdir -p /data/videos /data/runs /data/cache \
    && chmod 1777 /data/runs /data/cache
USER 10001:10001
ENV PATH=/venv/bin:$PATH \
    HOME=/data/cache \
    XDG_CACHE_HOME=/data/cache \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
WORKDIR /data
VOLUME ["/data/videos", "/data/runs", "/data/cache"]
ENTRYPOINT ["python", "-m", "har_keras"]
CMD ["train", "videos"]

# Images of Scorebeat: `--target cpu`, and `--target cuda` with PyTorch's CUDA build.
# To pin the bases beyond their tags, write @sha256:... behind them, as `docker buildx imagetools inspect` prints it.

# Dependencies are layers of their own, made before any source is copied: a changed line of code makes a layer of 6 MB.

FROM python:3.11-slim-trixie AS environment
WORKDIR /src
RUN python -m venv --without-pip /opt/scorebeat
COPY requirements requirements

# every dependency at its version in constraints.txt, those of EXTRAS too, and no file but those whose hashes were locked.
# What runs needs none of their tests, headers and sources of C, and neither Arrow's Flight nor its S3
FROM environment AS cpu-environment
ARG EXTRAS=""
RUN --mount=type=cache,target=/root/.cache/pip \
    (IFS=,; for name in base $EXTRAS; do cat "requirements/$name.txt" || exit 1; done) > /locked.txt \
    && pip --python /opt/scorebeat install --no-deps --require-hashes -r /locked.txt \
    && find /opt/scorebeat/lib -depth -type d -name tests -exec rm -r {} + \
    && find /opt/scorebeat/lib -type f \( -name '*.pyx' -o -name '*.pxd' -o -name '*.pxi' -o -name '*.h' -o -name '*.hpp' \
       -o -name '*.a' -o -path '*/pyarrow/*_flight*' -o -path '*/pyarrow/*s3*' \) -delete \
    && /opt/scorebeat/bin/python -c 'import numpy, onnxruntime, pyarrow.dataset, pyarrow.parquet, scipy.stats, sklearn.ensemble, skops.io'

# with PyTorch from PyPI, whose CUDA libraries are locked with it
FROM environment AS cuda-environment
ARG EXTRAS=""
RUN --mount=type=cache,target=/root/.cache/pip \
    (IFS=,; for name in base torch $EXTRAS; do cat "requirements/$name.txt" || exit 1; done) > /locked.txt \
    && pip --python /opt/scorebeat install --no-deps --require-hashes -r /locked.txt \
    && find /opt/scorebeat/lib -depth -type d -name tests -exec rm -r {} +

# the wheel, built here from this tree, alone in an environment of the same path
FROM environment AS product
# pip's cache is a mount, in no layer
# hadolint ignore=DL3042
RUN --mount=type=cache,target=/root/.cache/pip pip install --no-deps --require-hashes -r requirements/build.txt
COPY pyproject.toml README.md ./
COPY src src
COPY core core
COPY broker broker
COPY db db
COPY drift drift
COPY models models
COPY online online
COPY producer producer
COPY worker worker
COPY ops ops
COPY client client
COPY monitor monitor
COPY api api
COPY examples examples
RUN pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /dist . \
    && pip --python /opt/scorebeat install --no-cache-dir --no-deps --no-index /dist/*.whl

FROM python:3.11-slim-trixie AS runtime
# libgomp1: LightGBM's wheel expects it of the system. Its version is the release's, which gets security fixes only
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libgomp1 \
    && rm -rf /var/lib/apt/lists/* \
    && python -m pip uninstall --yes wheel setuptools pip \
    && groupadd --gid 10001 scorebeat \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /srv/scorebeat --shell /usr/sbin/nologin scorebeat \
    && install --directory --owner scorebeat --group scorebeat /srv/scorebeat /srv/scorebeat/models /project \
    && find / -xdev -type f -perm /6000 -exec chmod a-s {} +
# a volume that is mounted there first takes over the folder's owner
ENV PATH="/opt/scorebeat/bin:$PATH" \
    HOME="/tmp" \
    PYTHONUNBUFFERED="1" \
    PYTHONDONTWRITEBYTECODE="1" \
    REMAP_SIGTERM="SIGQUIT" \
    SCOREBEAT_ARTIFACTS="/srv/scorebeat/models" \
    SCOREBEAT_CACHE="/tmp/scorebeat" \
    SCOREBEAT_JOBS="/project/jobs.toml"
LABEL org.opencontainers.image.title="Scorebeat" \
    org.opencontainers.image.description="Batch inference on Celery: each row exactly once, whatever crashes" \
    org.opencontainers.image.licenses="Apache-2.0"
USER 10001:10001
WORKDIR /srv/scorebeat
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=15s --start-period=60s --retries=3 CMD ["scorebeat", "health", "worker"]
ENTRYPOINT ["scorebeat"]

FROM runtime AS cuda
ENV NVIDIA_DRIVER_CAPABILITIES="compute,utility"
COPY --from=cuda-environment /opt/scorebeat /opt/scorebeat
COPY --from=product /opt/scorebeat /opt/scorebeat
CMD ["worker", "--device", "cuda:0"]

FROM runtime AS cpu
COPY --from=cpu-environment /opt/scorebeat /opt/scorebeat
COPY --from=product /opt/scorebeat /opt/scorebeat
CMD ["worker", "--device", "cpu"]

# Two images. `serve` answers with an exported model and holds no torch; `train` has all commands.
#   docker build --target serve -t vit-lightning-serve .
#   docker build --target train -t vit-lightning .
# BASE may be any image with python3 (3.11 to 3.13), its venv module and Debian's or Alpine-like user tools.
ARG BASE=python:3.12-slim-bookworm

FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PATH=/opt/venv/bin:$PATH
RUN python3 -m venv /opt/venv
WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY vit_lightning vit_lightning

FROM build AS build-serve
COPY requirements-serve.lock ./
# Without the package's own dependencies: those of `serve` are in the lock, and torch is none of them.
RUN pip install --no-deps -r requirements-serve.lock && pip install --no-deps . && pip uninstall --yes pip

FROM build AS build-train
COPY requirements.lock ./
RUN pip install -c requirements.lock '.[export,serve,studio,sweep]'

FROM ${BASE} AS serve
COPY --from=build-serve /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python3", "-c", "import urllib.request as web; web.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
ENTRYPOINT ["vit-lightning", "serve", "--expose"]
CMD ["--model", "/model/model.onnx"]

FROM ${BASE} AS train
COPY --from=build-train /opt/venv /opt/venv
WORKDIR /app
COPY configs configs
# A volume that is mounted here for the first time belongs to the same user.
RUN mkdir lightning_logs cache && chown -R 10001:10001 /app
ENV PATH=/opt/venv/bin:$PATH HOME=/app XDG_CACHE_HOME=/app/cache
USER 10001:10001
VOLUME ["/app/lightning_logs", "/app/cache"]
ENTRYPOINT ["vit-lightning"]
CMD ["fit", "--config", "configs/demo.yaml"]

# A server of Stretto, or its command line: docker build -t stretto . && docker run stretto version
# BASE is any Debian 12 or later, or whatever has python3 (with venv), git and ssh already.
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
ENV PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 \
    UV_SYSTEM_CERTS=true UV_PYTHON_DOWNLOADS=never UV_NO_CACHE=1 UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1 \
    UV_PROJECT_ENVIRONMENT=/opt/stretto
RUN command -v git >/dev/null && python3 -c 'import ensurepip' \
    || { apt-get update && apt-get install -y --no-install-recommends ca-certificates git python3 python3-venv; }
RUN python3 -m venv /opt/uv && /opt/uv/bin/pip install 'uv>=0.8,<1'
WORKDIR /src
COPY pyproject.toml uv.lock README.md LICENSE ./
RUN /opt/uv/bin/uv sync --locked --no-dev --extra server --extra client --no-install-project
COPY src ./src
RUN /opt/uv/bin/uv sync --locked --no-dev --extra server --extra client --no-editable

FROM ${BASE}
RUN command -v git >/dev/null && command -v ssh >/dev/null && command -v python3 >/dev/null \
    || { apt-get update && apt-get install -y --no-install-recommends ca-certificates git openssh-client python3 \
         && rm -rf /var/lib/apt/lists/*; }
COPY --from=build /opt/stretto /opt/stretto
# Anybody may run it: `docker run --user` decides who owns the state, which must lie on the same path on the engine's host.
ENV PATH=/opt/stretto/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 STRETTO_HOME=/var/lib/stretto
RUN mkdir -p /var/lib/stretto && chmod 1777 /var/lib/stretto
VOLUME /var/lib/stretto
EXPOSE 8420
STOPSIGNAL SIGTERM
ENTRYPOINT ["stretto"]
CMD ["--help"]

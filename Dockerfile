# Ringbinder as a container: `docker build -t ringbinder .`
# With plugins of others in it: FROM ringbinder, RUN uv pip install --python /opt/ringbinder/bin/python <requirement>
ARG BASE=docker.io/library/python:3.12-slim-bookworm@sha256:34386ef0cb081344d7ec1c103ba398e6e9f64e9ab3a1509accc92a4e24a07258

FROM ${BASE} AS build
COPY . /src
WORKDIR /src
ENV PATH=/opt/ringbinder/bin:${PATH} \
    VIRTUAL_ENV=/opt/ringbinder
RUN python3 -m venv /opt/ringbinder \
    && pip install --quiet --no-cache-dir --disable-pip-version-check --require-hashes --requirement locks/uv.txt \
    && uv export --quiet --frozen --offline --no-default-groups --no-emit-workspace --extra kubernetes \
       --output-file /tmp/locked.txt \
    && uv pip install --quiet --no-cache --compile-bytecode --require-hashes --requirement /tmp/locked.txt \
    && uv pip install --quiet --no-cache --compile-bytecode --no-deps \
       --build-constraints locks/build.txt --require-build-hashes /src/core /src

FROM ${BASE}
# ssh does not run for a user without a name.
RUN if ! { command -v git && command -v ssh; } >/dev/null; then \
      apt-get update -qq \
      && apt-get install -qq -y --no-install-recommends ca-certificates git openssh-client >/dev/null \
      && apt-get clean && rm -rf /var/lib/apt/lists/*; \
    fi \
    && if ! getent passwd 1000 >/dev/null; then \
      useradd --uid 1000 --home-dir /var/lib/ringbinder --no-create-home --shell /usr/sbin/nologin ringbinder; \
    fi \
    && mkdir -p /var/lib/ringbinder /opt/plugins \
    && chown 1000:1000 /var/lib/ringbinder /opt/plugins
COPY --from=build /opt/ringbinder /opt/ringbinder
ENV PATH=/opt/ringbinder/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    HOME=/var/lib/ringbinder \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
USER 1000:1000
WORKDIR /var/lib/ringbinder
EXPOSE 8585
ENTRYPOINT ["ringbinder"]
CMD ["serve", "--host", "0.0.0.0"]

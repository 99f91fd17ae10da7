# SQLite is compiled with cgo, so the binary needs the C library of the same Debian.
FROM golang:1.26-bookworm AS build
ENV GOCACHE=/cache
WORKDIR /src
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/cache make build

FROM debian:bookworm-slim
# Volumes take the owner of the directories that they are mounted on.
RUN useradd --system --uid 65532 --home-dir /var/lib/rowlock --shell /usr/sbin/nologin rowlock \
	&& install -d -m 0700 -o rowlock -g rowlock /var/lib/rowlock /etc/rowlock
COPY --from=build /src/bin/rowlock /usr/local/bin/rowlock
USER rowlock
WORKDIR /var/lib/rowlock
EXPOSE 6443
ENTRYPOINT ["rowlock"]
CMD ["up", "--data-dir=/var/lib/rowlock", "--bind-address=0.0.0.0", "--write-kubeconfig=/var/lib/rowlock/admin.kubeconfig"]

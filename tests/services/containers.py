"""Containers for the tests, by testcontainers where a Docker daemon answers.

docker and testcontainers are imported inside the functions: most machines that start brokers from here (benchmarks,
chaos) have no daemon.
"""

import gc
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.processes import Unavailable

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

SOCKET = Path("/var/run/docker.sock")
MYSQL_IMAGE = "mysql:8.4"
POSTGRESQL_IMAGE = "postgres:17-alpine"


def require_docker() -> None:
    """Unavailable, unless a Docker daemon answers."""
    if "DOCKER_HOST" not in os.environ and not SOCKET.exists():
        raise Unavailable("no Docker daemon")
    import docker

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # docker leaves its socket to the collector when it fails
        try:
            docker.from_env(timeout=5).close()
        except docker.errors.DockerException as error:
            raise Unavailable(f"no Docker daemon ({error})") from error
        finally:
            gc.collect()


def docker_host() -> str:
    """The host on which the published ports of containers are reached."""
    from testcontainers.core.docker_client import DockerClient

    docker = DockerClient()
    try:
        return docker.host()
    finally:
        docker.client.close()


def kafka_container(image: str, port: int, properties: Mapping[str, str]) -> "DockerContainer":
    """A broker whose client listener is `port` inside and outside; the image takes properties as variables."""
    from testcontainers.core.container import DockerContainer

    variables = {f"KAFKA_{name.upper().replace('.', '_')}": value for name, value in properties.items()}
    return DockerContainer(image).with_bind_ports(port, port).with_envs(**variables)


@contextmanager
def mysql_container(password: str) -> Iterator[str]:
    """MySQL with root as its user (the image lets no other create databases); gives its URL."""
    require_docker()
    from testcontainers.community.mysql import MySqlContainer

    container = MySqlContainer(MYSQL_IMAGE, username="root", password=password)
    with _started(container):
        yield container.get_connection_url()


@contextmanager
def postgresql_container(user: str, password: str) -> Iterator[str]:
    """PostgreSQL with a user who may do everything; gives its URL."""
    require_docker()
    from testcontainers.community.postgres import PostgresContainer

    container = PostgresContainer(POSTGRESQL_IMAGE, username=user, password=password)
    with _started(container):
        yield container.get_connection_url()


@contextmanager
def _started(container: "DockerContainer") -> Iterator[None]:
    try:
        start_container(container)
        yield
    finally:
        container.stop()


def start_container(container: "DockerContainer") -> None:
    """Start a container; Unavailable where its image can neither be found nor pulled."""
    from docker.errors import APIError

    try:
        container.start()
    except APIError as error:
        raise Unavailable(f"Docker cannot run {container.image}: {error}") from error

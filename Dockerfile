# The image of one worker. Behind a mirror: --build-arg PYTHON_IMAGE=mirror.example/python:3.13-slim-trixie
# Without a network: `make wheels` first. `make image-check` proves these steps on a machine without Docker.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY requirements.txt requirements.lock ./
COPY deploy deploy
RUN sh deploy/image.sh packages /app
COPY . .
RUN sh deploy/image.sh program /app

FROM ${PYTHON_IMAGE}
# HOME, USER: for libraries that keep a cache there, or ask who they are. The user below has no entry in /etc/passwd.
ENV PATH=/app/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    USER=consumer \
    HTTP_HOST=0.0.0.0 \
    HTTP_PORT=8080
WORKDIR /app
COPY --from=build /app /app
# A number, so that Kubernetes can see that it is not root (runAsNonRoot).
USER 10001:10001
# Asks whether the worker's loop turns; Kafka being away does not make a worker unhealthy.
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 CMD ["env", "PYTHONPATH=.", "python", "-m", "utils.monitoring.status"]
ENTRYPOINT ["python", "main.py"]
CMD ["run"]

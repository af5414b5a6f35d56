# FastStream as an image, as the worker's own Dockerfile makes one: what is built stays behind, what runs is not root.
ARG PYTHON_IMAGE=python:3.13-slim-trixie

FROM ${PYTHON_IMAGE} AS build
COPY wheels /wheels
COPY faststream.txt .
RUN python3 -m venv /app/.venv && \
    /app/.venv/bin/python -m pip install --no-cache-dir --no-index --find-links /wheels -r faststream.txt && \
    /app/.venv/bin/python -m pip uninstall --quiet --yes pip
COPY faststream_app.py /app/
RUN /app/.venv/bin/python -m compileall -q /app/faststream_app.py

FROM ${PYTHON_IMAGE}
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /app
COPY --from=build /app /app
USER 10001:10001
ENTRYPOINT ["python", "faststream_app.py"]

# The page for anyone with Docker. By default without weights, on a CPU; for the diffusion engine on an NVIDIA GPU:
#   docker build --build-arg EXTRAS=demo,diffusion,quantization .
FROM python:3.12-slim

ARG EXTRAS=demo

ENV PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

RUN useradd --create-home --uid 1000 refgc

WORKDIR /srv/refgc

# What is installed changes more seldom than the code, and is a layer of its own.
COPY pyproject.toml setup.py constraints.txt README.md LICENSE ./
COPY refgc/__init__.py refgc/
RUN pip install --constraint constraints.txt --editable ".[${EXTRAS}]"

COPY refgc refgc
COPY examples examples
COPY app.py ./

USER 1000
# A volume belongs to the owner of the folder that it is put in the place of.
RUN mkdir -p /home/refgc/.cache/huggingface
RUN refgc setup --surroundings

# Uploads and results are deleted by age; weights stay, and want a volume: /home/refgc/.cache/huggingface
ENV GRADIO_SERVER_NAME=0.0.0.0 \
    GRADIO_SERVER_PORT=7860 \
    GRADIO_TEMP_DIR=/tmp/refgc

EXPOSE 7860

HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"GRADIO_SERVER_PORT\"]}/healthz', timeout=4)"]

# The page ends in order on Ctrl-C, and a process with the number 1 does not end on SIGTERM of itself.
STOPSIGNAL SIGINT
CMD ["python", "app.py"]

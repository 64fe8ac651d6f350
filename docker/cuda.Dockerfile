# docker build -f docker/cuda.Dockerfile -t genolm-cuda . && docker run --gpus all -v "$PWD:/data" genolm-cuda env
FROM pytorch/pytorch:2.11.0-cuda13.0-cudnn9-devel
WORKDIR /src
COPY . .
RUN pip install --no-cache-dir '.[deepspeed,sweep,bigwig]' \
    && rm -rf /src/*
WORKDIR /data
ENTRYPOINT ["genolm"]

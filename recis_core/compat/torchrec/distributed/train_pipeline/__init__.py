"""Pipelines: what reads batches ahead and steps a model."""

from recis_core.compat.torchrec.distributed.train_pipeline.train_pipelines import (
    TrainPipelineBase,
    TrainPipelineSparseDist,
)

__all__ = ["TrainPipelineBase", "TrainPipelineSparseDist"]

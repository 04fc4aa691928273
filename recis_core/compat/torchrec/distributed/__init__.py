"""Training on ranks, and pipelines. Tables spread over ranks by themselves: there are no planners and sharders."""

from recis_core.compat.torchrec.distributed.model_parallel import DistributedModelParallel
from recis_core.compat.torchrec.distributed.train_pipeline import TrainPipelineBase, TrainPipelineSparseDist

__all__ = ["DistributedModelParallel", "TrainPipelineBase", "TrainPipelineSparseDist"]


def __getattr__(name: str) -> object:
    """Says the way out for names of planners and sharders."""
    if name in ("planner", "EmbeddingShardingPlanner", "ShardingPlan", "ShardingEnv", "get_default_sharders"):
        raise ImportError(
            f"{name} plans where rows lie, and here a hash of their ids says that. Leave it out: DistributedModelParallel("
            "module, device=…); table_options={table: {'sharding': 'row+hot(1000)'}} of a collection chooses otherwise."
        )
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

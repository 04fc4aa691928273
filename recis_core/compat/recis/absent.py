"""RecIS's names that are not here: each raises with its way out when a program asks for it."""

from __future__ import annotations

from typing import Any, NoReturn

HOME = __package__ or ""

LOOKUP = "is a stage of RecIS's lookup; here one call does them all. Call the module itself: engine(features), embedding(ids)."
PLAN = "is of the plan of RecIS's feature engine; ours has its own. Call FeatureEngine(features)(data), or an op by itself."
TABLE_GRADIENT = "is an autograd function of RecIS's table. Call the table: HashTable(…)(ids) has the gradient."
REDUCE = (
    "is an autograd function. Call ragged_embedding_segment_reduce or sparse_embedding_segment_reduce, which have one."
)
TILE = "is an autograd function, or its check. Call ragged_tile, which has the gradient and checks always."
OWNERS = "deals ids to ranks by their remainder; ours go by a hash, inside the engine. torch.unique gives distinct ids."
LAYOUTS = (
    "rewrites a layout of checkpoints from before RecIS 1.0. Load such a one in RecIS, save it there, and import that by "
    "`recis ckpt import` or recis_core.serialize.recis_source."
)
FILES = (
    "opens paths of Alibaba's stores. Use fsspec.core.url_to_fs, or recis_core.serialize, which takes fsspec's URLs."
)
INDEX = "puts together an index that parts were written beside; here save_sparse_params writes it."

IN_MODULES = {
    "features.feature_engine": dict.fromkeys(
        ("RunContext", "FuseExecutionGroup", "NonFuseExecutionGroup", "ExecutionStep"), PLAN
    ),
    "framework.filesystem": {"get_file_system": FILES},
    "nn.functional.embedding_ops": {
        "EmbeddingSegmentReduceSparse": REDUCE, "EmbeddingSegmentReduceRagged": REDUCE, "ids_partition": OWNERS
    },
    "nn.functional.ragged_ops": {"RaggedTile": TILE, "check_para": TILE},
    "nn.modules.embedding": dict.fromkeys(("EmbeddingExchange", "ExchangeIDsResults", "ExchangeEmbResults"), LOOKUP),
    "nn.modules.embedding_engine": {"RuntimeGroupFeature": LOOKUP},
    "nn.modules.hashtable": dict.fromkeys(
        ("HashTableLookupHelpFunction", "GradIDMeanFunction", "GradWorkerMeanFunction"), TABLE_GRADIENT
    ),
    "serialize.convert_v1_to_v2": dict.fromkeys(
        ("BlockInfo", "BlockInfoCollection", "TableV2Writer", "BundleWriter", "Table", "get_datafiles_from_v1",
         "parse_table_from_v1_paths"), LAYOUTS
    ),
}  # fmt: skip
IN_CLASSES = {
    "DynamicEmbedding": dict.fromkeys(
        ("deal_with_tensor", "exchange_ids", "lookup_exchange_emb", "wait_exchange_emb", "emb_reduce"), LOOKUP
    ),
    "EmbeddingEngine": dict.fromkeys(
        ("group_features", "group_exchange_ids", "group_exchange_embs", "group_reduce", "split_group_embs"), LOOKUP
    ),
    "Saver": {"save_sparse_meta": INDEX},
}


def refuse_name(module: str, name: str) -> NoReturn:
    """Of a module: raises ImportError for a name of RecIS that is not here, AttributeError for any other."""
    told = IN_MODULES.get(module.removeprefix(f"{HOME}."), {})
    if name in told:
        raise ImportError(f"{name} {told[name]}")
    raise AttributeError(f"module {module!r} has no attribute {name!r}")


class WithoutStages:
    """Before other bases of a class: methods of RecIS's that it lacks raise AttributeError with the way out."""

    def __getattr__(self, name: str) -> Any:
        told = IN_CLASSES.get(type(self).__name__, {})
        if name in told:
            raise AttributeError(f"{type(self).__name__}.{name} {told[name]}")
        above: Any = getattr(super(), "__getattr__", None)
        if above is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return above(name)

"""Tables of other formats, as blocks of rows: each importer gives a TableSource.

recis_*        RecIS v1: reader, tables, writer
torchrec*, dcp_*    TorchRec's state_dicts, in one file or of torch.distributed.checkpoint
arrays, parquet_rows    ids and vectors; an nn.Embedding with its dictionary
state          our own checkpoints and training states
load           rows of any of them into a model's tables
"""

from recis_core.serialize.imports.arrays import arrays_source, embedding_source
from recis_core.serialize.imports.load import LoadedTables, load_tables_from
from recis_core.serialize.imports.parquet_rows import parquet_source
from recis_core.serialize.imports.recis_checkpoint import RecisCheckpoint
from recis_core.serialize.imports.recis_tables import recis_source
from recis_core.serialize.imports.recis_writer import (
    RecisShard,
    finish_recis_checkpoint,
    write_recis_checkpoint,
    write_recis_shard,
)
from recis_core.serialize.imports.source import StoredTable, TableSource
from recis_core.serialize.imports.state import state_source
from recis_core.serialize.imports.torchrec import torchrec_source

__all__ = [
    "LoadedTables",
    "RecisCheckpoint",
    "RecisShard",
    "StoredTable",
    "TableSource",
    "arrays_source",
    "embedding_source",
    "finish_recis_checkpoint",
    "load_tables_from",
    "parquet_source",
    "recis_source",
    "state_source",
    "torchrec_source",
    "write_recis_checkpoint",
    "write_recis_shard",
]

"""A large language model beside sparse tables: a decoder of `transformers` that reads text and rows of tables in one
sequence. Needs the extra [llm].

    from recis_core.models.llm import DecoderWithTables, shard_decoder
"""

from recis_core.models.llm.sequence import PADDING
from recis_core.models.llm.sharding import shard_decoder
from recis_core.models.llm.with_tables import DecoderWithTables

__all__ = ["PADDING", "DecoderWithTables", "shard_decoder"]

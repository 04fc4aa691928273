"""Every loop in XLA alone, for any JAX device."""

from recis_core.backends.jax_backend.distinct import missing_keys
from recis_core.backends.jax_backend.find import find
from recis_core.backends.jax_backend.insert import insert
from recis_core.backends.jax_backend.loops import Loops
from recis_core.backends.jax_backend.pool import gather_pool
from recis_core.backends.jax_backend.row_codes import squared_norms
from recis_core.backends.jax_backend.segment_sum import segment_sum
from recis_core.backends.jax_backend.touch import touch
from recis_core.backends.jax_backend.update import update
from recis_core.pallas_kernels.reference.pack_ids import pack_ids, unpack_ids
from recis_core.pallas_kernels.reference.quantise import dequantise, quantise
from recis_core.pallas_kernels.reference.row_dot import row_dot

XLA_LOOPS = Loops(
    find=find,
    touch=touch,
    insert=insert,
    dedup=missing_keys,
    gather_pool=gather_pool,
    row_dot=row_dot,
    segment_sum=segment_sum,
    update=update,
    quantise=quantise,
    dequantise=dequantise,
    pack_ids=pack_ids,
    unpack_ids=unpack_ids,
    squared_norms=squared_norms,
)

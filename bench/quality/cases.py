"""All cases, by name."""

from __future__ import annotations

from recis_core.bench.movielens.cases import HSTU_CASE, SASREC_CASE
from recis_core.bench.quality.case import Case
from recis_core.bench.quality.choices import CASE as TWO_TOWER
from recis_core.bench.quality.clicks import DEEPFM, DLRM_DCN, DLRM_DOT
from recis_core.bench.quality.interests import CASE as DIN
from recis_core.bench.quality.tasks import CASE as MMOE

CASES: tuple[Case, ...] = (
    DEEPFM,
    DLRM_DOT,
    DLRM_DCN,
    DIN,
    MMOE,
    TWO_TOWER,
    SASREC_CASE,
    HSTU_CASE,
)

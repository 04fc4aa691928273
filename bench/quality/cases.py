"""All cases, by name."""

from __future__ import annotations

from recis_core.bench.movielens.cases import HSTU_CASE, SASREC_CASE
from recis_core.bench.quality.case import Case
from recis_core.bench.quality.clicks import DEEPFM, DLRM_DCN, DLRM_DOT

CASES: tuple[Case, ...] = (
    DEEPFM,
    DLRM_DOT,
    DLRM_DCN,
    SASREC_CASE,
    HSTU_CASE,
)

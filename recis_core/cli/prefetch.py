"""The flags of batches that are read ahead."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import dataclass

from recis_core.cli.flags import named, plain_errors


@plain_errors
@dataclass(frozen=True, kw_only=True)
class PrefetchFlags:
    """Batches that are read ahead."""

    batches: Annotated[int, Field(ge=0), named("prefetch")] = 0
    """Batches that are read ahead, so that their rows are on the device when they come."""
    threads: Annotated[int | None, Field(ge=1), named("prefetch_threads")] = None
    """Threads of training's loops beside the one that reads ahead: one less than cores is faster where cores are few. On
    Intel, torch's dense layers then have the same bits with MKL_CBWR=AVX2,STRICT alone. Default: all."""

    def __post_init__(self) -> None:
        if self.threads is not None and not self.batches:
            raise ValueError("--prefetch-threads needs --prefetch L, what reads ahead beside them.")

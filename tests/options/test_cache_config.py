"""What CacheConfig and policies refuse, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from recis_core.nn import CacheConfig, Policy
from recis_core.options.cache_policy import Lfu, Ttl, policy_of


class Mine(Policy):
    def touch(self, scores: np.ndarray, rows: np.ndarray, counts: np.ndarray, tick: int) -> None:
        scores[rows] = tick


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"device_bytes": "8GiB"}, "device_bytes must be a whole number of bytes, as 8 << 30"),
        ({"device_bytes": 4e9}, "got 4000000000.0"),
        ({"host_bytes": "1%"}, r"a share of the table's rows is host_rows='10%'; got '1%'"),
        (
            {"device_rows": 64.5},
            r"device_rows must be a whole number of rows, or a share of the table's as '1%'; got 64.5",
        ),
        ({"device_rows": True}, "device_rows must be a whole number of rows"),
        ({"disk_index_bytes": 1.5}, "disk_index_bytes must be a whole number of bytes"),
        ({"prefetch": "8"}, "prefetch must be a whole number of batches; got '8'"),
        ({"prefetch": 1.5}, "prefetch must be a whole number of batches; got 1.5"),
        ({"prefetch": None}, "prefetch must be a whole number of batches; got None. 0 reads none ahead."),
        ({"disk": 5, "host_rows": 4}, "disk must be the path of a directory; got 5"),
        ({"disk": "d", "host_rows": 4, "keep": 1}, "keep must be True or False; got 1"),
        ({"policy": None}, "policy must be a Policy, or a text as 'lfu'; got None"),
        ({"policy": Mine}, r"got <class '.*Mine'>. Make one: Mine\(…\)"),
    ],
)
def test_other_kinds_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        CacheConfig(**({} if "device_bytes" in options else {"device_rows": 4}) | options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"disk": "", "host_rows": 4}, "disk must be the path of a directory; got ''. None is no disk."),
        ({"disk": "d"}, "disk=DIR needs host_bytes or host_rows"),
        ({"keep": True}, "keep needs disk=DIR"),
        ({"disk_precision": "int8"}, "disk_precision 'int8' needs disk=DIR, the directory of the rows"),
        ({"disk_slots": "bf16"}, "disk_slots 'bf16' needs disk=DIR, the directory of the rows"),
        ({"host_precision": "bf8"}, "host_precision must be one of same, bf16"),
        ({"device_rows": "x"}, "device_rows must be a number, or a share of all rows as '1%'; got 'x'"),
        ({"device_rows": "0%"}, "device_rows must be a share above 0% and up to 100% of all rows, as '1%'; got '0%'"),
        ({"host_rows": "101%"}, "host_rows must be a share above 0% and up to 100%"),
        ({"policy": "lfu(x)"}, r"policy 'lfu\(x\)' must have a number in its brackets"),
        ({"policy": "lfu(2)"}, r"policy 'lfu\(2\)': decay must be between 0 and 1"),
        ({"policy": "lru(2)"}, "policy lru takes no number"),
    ],
)
def test_other_values_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        CacheConfig(**{"device_rows": 4} | options)


def test_numbers_and_paths_of_other_libraries_are_taken() -> None:
    config = CacheConfig(device_rows=np.int64(64), host_rows="10%", disk=Path("d"), prefetch=np.int32(2))
    assert config == CacheConfig(device_rows=64, host_rows="10%", disk="d", prefetch=2)
    assert (type(config.device_rows), type(config.disk), type(config.prefetch)) == (int, str, int)


def test_policies_of_ones_own_are_taken_as_they_are() -> None:
    mine = Mine()
    assert policy_of(mine) is mine
    assert CacheConfig(device_rows=4, policy=mine).policy is mine


@pytest.mark.parametrize("make", [lambda: Lfu("x"), lambda: Ttl(None), lambda: Ttl(True)])
def test_numbers_of_policies_are_numbers(make: Any) -> None:
    with pytest.raises(TypeError, match="must be a number; got"):
        make()

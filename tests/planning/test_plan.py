"""Whole plans: the two models of bench/models, and what is said when one does not fit."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from recis_core.io.synthetic.preset import CRITEO_SIZES
from recis_core.planning import PlanDoesNotFit, make_plan, read_model

MODELS = Path(__file__).parents[2] / "bench" / "models"
GB = 10**9


@pytest.fixture(scope="module")
def dlrm():
    return read_model(MODELS / "dlrm-dcnv2.yaml")


@pytest.fixture(scope="module")
def trillion():
    return read_model(MODELS / "trillion.yaml")


def test_mlperf_dlrm_on_eight_ranks(dlrm):
    assert tuple(table.rows for table in dlrm.tables) == CRITEO_SIZES
    assert sum(f.pooling_factor for t in dlrm.tables for f in t.features) == 214
    plan = make_plan(dlrm, 8, 80 * GB)
    assert plan.parameters == sum(CRITEO_SIZES) * 128
    assert all(rank.memory_bytes <= 80 * GB for rank in plan.ranks)
    rows = sum(CRITEO_SIZES) / 8 * (128 * 4 + 4)
    assert rows < plan.ranks[0].memory_bytes - plan.kept_bytes < 1.15 * rows
    assert sum(table.ids for table in plan.tables) == 214 * 8192
    assert 1 <= plan.imbalance["memory"] < 1.01
    assert 1 <= plan.imbalance["traffic"] < 1.05
    assert [link.link for link in plan.links] == ["intra-node"]


def test_tables_ranks_and_links_tell_one_story(trillion):
    """What tables move is what ranks send; links hold it, and what the hash may add."""
    plan = make_plan(trillion, 64, 80 * GB)
    tables = sum(table.forward_bytes + table.backward_bytes for table in plan.tables)
    # Tables count an all-reduce as one ring; ranks count it by nodes, where a little more is sent inside them.
    reduced = sum(
        2 * 63 / 64 * 4 * t.dim * (t.sharding.hot_rows or (t.rows if str(t.sharding) == "replicated" else 0))
        for t in plan.tables
    )
    by_node = reduced / (63 / 64) * (7 / 8 + 7 / 8 / 8)
    assert plan.ranks[5].sent_bytes == pytest.approx(tables - reduced + by_node)
    assert plan.ranks[5].sent_bytes == plan.ranks[5].received_bytes
    busiest = sum(link.rank_forward_bytes + link.rank_backward_bytes for link in plan.links)
    assert plan.ranks[5].sent_bytes < busiest < 1.05 * plan.ranks[5].sent_bytes


def test_a_trillion_parameters(trillion):
    assert trillion.parameters == 10**12
    plan = make_plan(trillion, 64, 80 * GB)
    assert max(rank.memory_bytes for rank in plan.ranks) <= 80 * GB
    total = sum(rank.memory_bytes - plan.kept_bytes for rank in plan.ranks)
    assert 2e12 < total < 3.2e12  # two bytes a parameter, and the index
    assert plan.step_seconds < plan.all_by_row_seconds
    assert [link.link for link in plan.links] == ["intra-node", "inter-node"]


def test_what_does_not_fit_says_how_many_ranks_would_do(trillion):
    with pytest.raises(PlanDoesNotFit) as raised:
        make_plan(trillion, 8, 80 * GB)
    text = str(raised.value)
    assert re.search(r"trillion does not fit: its tables take 310 GB on rank 0 of 8, .* 241 GB are missing\.", text)
    assert "Largest there: user 110 GB (row)" in text
    assert "a host or disk tier" in text
    assert "bfloat16" not in text  # it is that already
    enough = int(re.search(r"Way out: (\d+) ranks", text)[1])
    make_plan(trillion, enough, 80 * GB)
    with pytest.raises(PlanDoesNotFit):
        make_plan(trillion, enough - 8, 80 * GB)


def test_other_ways_out_are_weighed(dlrm):
    heavy = replace(dlrm, tables=tuple(replace(t, optimizer="adam") for t in dlrm.tables))
    with pytest.raises(PlanDoesNotFit) as raised:
        make_plan(heavy, 8, 40 * GB)
    text = str(raised.value)
    assert re.search(r"bfloat16 storage \(dtype\) saves [\d.]+ GB a rank, not enough by itself", text)
    assert re.search(
        r"rowwise_adagrad for adam and adagrad \(optimizer\) saves [\d.]+ GB a rank, enough by itself", text
    )
    make_plan(dlrm, 8, 40 * GB)
    fixed = replace(dlrm, tables=tuple(replace(t, sharding="replicated") for t in dlrm.tables))
    with pytest.raises(PlanDoesNotFit, match="leave the sharding of c1, c2, c3 open"):
        make_plan(fixed, 8, 80 * GB)


def test_a_reserve_that_leaves_nothing(dlrm):
    with pytest.raises(PlanDoesNotFit, match=r"where 0 B are for tables \(1 GB less"):
        make_plan(dlrm, 8, GB)


def test_as_json(dlrm):
    plan = make_plan(dlrm, 2, 200 * GB)
    tree = json.loads(json.dumps(plan.as_json()))
    assert tree["tables"][0]["sharding"] == str(plan.tables[0].sharding)
    assert len(tree["ranks"]) == 2
    assert set(tree["imbalance"]) == {"memory", "traffic"}


@pytest.mark.parametrize(
    ("world", "message"),
    [
        (12, "world must be whole nodes of 8 ranks (ranks_per_node); got 12"),
        (0, "got 0"),
        (65_544, "must be in [1, 65536]"),
    ],
)
def test_worlds_that_cannot_be(dlrm, world, message):
    with pytest.raises(ValueError) as raised:
        make_plan(dlrm, world, 80 * GB)
    assert message in str(raised.value)

"""The placement search: against every placement there is, and on models whose best is plain."""

import itertools

import numpy as np
import pytest

from recis_core.options.sharding import Sharding
from recis_core.planning import PlanDoesNotFit, make_plan
from recis_core.planning.cluster import Cluster
from recis_core.planning.load import Load
from recis_core.planning.memory import buffers
from recis_core.planning.model_file import Feature, Links, ModelFile, Precision, TableSize
from recis_core.planning.options import Options
from recis_core.planning.plan import _need


def table(name, rows, dim=64, pooling=1.0, skew=1.05, **changes):
    features = (Feature(pooling_factor=pooling, skew=skew),)
    return TableSize(name=name, rows=rows, dim=dim, features=features, optimizer="sgd", **changes)


def model(*tables, **changes):
    return ModelFile(**{"tables": tables, "batch_size": 2048, "links": Links(ranks_per_node=2)} | changes)


def best_of_all(m, world, hbm):
    """Seconds of the best placement that fits, over all combinations of options."""
    cluster = Cluster.of(world, m.links)
    options = [Options(_need(m, t), cluster) for t in m.tables]
    budget = hbm - buffers(m, [o.need.demand for o in options])
    found = []
    for chosen in itertools.product(*(o.shardings(list(range(world))) for o in options)):
        load = Load(cluster)
        for o, sharding in zip(options, chosen, strict=True):
            load.add(o.effect(sharding))
        if load.memory.max() <= budget:
            found.append(load.step_seconds())
    return min(found)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("room", [1.05, 1.5, 100])
def test_near_the_best_of_all(seed, room):
    """Three tables on four ranks, memory tight, middling and ample: within 5 % of the best placement."""
    random = np.random.default_rng(seed)
    tables = [
        table(f"t{k}", int(10 ** random.uniform(1, 6)), 4 * int(random.integers(1, 33)), float(random.uniform(0.1, 5)))
        for k in range(3)
    ]
    m = model(*tables)
    cluster = Cluster.of(4, m.links)
    options = [Options(_need(m, t), cluster) for t in m.tables]
    least = sum(o.effect(Sharding()).footprint.fullest for o in options)
    hbm = int(least * room + buffers(m, [o.need.demand for o in options])) + 1
    plan = make_plan(m, 4, hbm)
    assert plan.step_seconds <= 1.05 * best_of_all(m, 4, hbm)
    assert plan.step_seconds <= plan.all_by_row_seconds
    assert max(rank.memory_bytes for rank in plan.ranks) <= hbm


def test_between_nodes_hot_rows_are_replicated():
    """An all-reduce crosses between nodes once a node, an exchange once a rank."""
    m = model(table("items", 10**7, pooling=50), table("days", 7), links=Links(ranks_per_node=8))
    shardings = make_plan(m, 32, 10**10).shardings
    assert shardings["items"].hot_rows > 1000
    assert shardings["days"] == Sharding("replicated")


def test_more_forwards_a_step_replicate_more():
    """Hot rows are refreshed once a step, and asked for in every forward."""
    t = table("items", 10**6, pooling=20)
    hot = [make_plan(model(t, accumulate=n), 2, 10**10).shardings["items"].hot_rows for n in (1, 4, 16)]
    assert hot[0] < hot[1] < hot[2]


def test_without_memory_to_spare_nothing_is_replicated():
    t = table("t", 100_000, 64, 40)
    links = Links(ranks_per_node=2)
    ample = make_plan(model(t, links=links), 8, 10**9)
    assert str(ample.tables[0].sharding) != "row"
    needed = make_plan(model(table("t", 100_000, 64, 40, sharding="row")), 8, 10**9).ranks[0].memory_bytes
    assert str(make_plan(model(t, links=links), 8, int(needed) + 1).tables[0].sharding) == "row"


def test_tables_whose_owner_is_open_are_spread_evenly():
    tables = [table(f"t{k}", 100_000 + 1000 * k, sharding="table") for k in range(8)]
    plan = make_plan(model(*tables), 4, 10**9)
    owners = [s.owner for s in plan.shardings.values()]
    assert sorted(owners) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert plan.imbalance["memory"] < 1.02


def test_fixed_shardings_are_kept():
    texts = ["row", "row+hot(3)", "table:1", "column", "replicated"]
    tables = [table(f"t{k}", 1000, sharding=text) for k, text in enumerate(texts)]
    assert [str(s) for s in make_plan(model(*tables), 4, 10**9).shardings.values()] == texts


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("table:4", "table t: sharding table:4 is fixed, but owner 4 is none of 4 ranks"),
        ("column", "table t: sharding column is fixed, but dim 6 has no 4 equal blocks of columns"),
        ("row+hot(101)", "table t: sharding row+hot(101) is fixed, but it has 100 rows only"),
    ],
)
def test_fixed_shardings_that_cannot_be_are_refused(text, message):
    with pytest.raises(ValueError) as raised:
        make_plan(model(table("t", 100, 6, sharding=text)), 4, 10**9)
    assert message in str(raised.value)


def test_row_numbers_are_32_bits():
    with pytest.raises(
        PlanDoesNotFit, match=r"table t has 3,\d{3},\d{3},\d{3} rows on one of 4 ranks; .* over more than 5"
    ):
        make_plan(model(table("t", 12 * 10**9, 1)), 4, 10**12)
    assert make_plan(model(table("t", 12 * 10**9, 1)), 6, 10**12).shardings["t"].kind == "row"


def test_one_rank_needs_no_exchange():
    plan = make_plan(model(table("t", 1000)), 1, 10**9)
    assert (plan.shardings["t"], plan.step_seconds, plan.links) == (Sharding(), 0, ())
    assert plan.imbalance == {"memory": 1, "traffic": 1}


def test_the_same_model_gives_the_same_plan():
    m = model(*(table(f"t{k}", 1000 * 3**k, pooling=k + 1) for k in range(8)), precision=Precision(forward="bf16"))
    assert make_plan(m, 8, 10**9) == make_plan(m, 8, 10**9)

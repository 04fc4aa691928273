"""Traffic over ranks and links: against every pair counted by itself, and against draws. Sizes: P ranks, G of a node."""

import numpy as np
import pytest

from recis_core.options.sharding import Sharding
from recis_core.planning.cluster import Cluster
from recis_core.planning.load import Load
from recis_core.planning.model_file import Feature, Links, Precision, TableSize
from recis_core.planning.options import Options
from recis_core.planning.traffic import Need, flow, owner_variance
from recis_core.planning.unique_ids import demand
from tests.planning.test_popularity import exact_shares

INT64 = Precision(ids="int64")
B = 512


def need(rows, precision=INT64, dim=64, accumulate=1, **changes):
    features = (Feature(pooling_factor=1, skew=1.05),)
    table = TableSize(name="t", rows=rows, dim=dim, features=features, **changes)
    return Need(table, demand(table, B, accumulate), precision, accumulate)


def cluster(world, per_node=8):
    return Cluster.of(world, Links(ranks_per_node=per_node, intra_node_gb_per_s=400, inter_node_gb_per_s=50))


def test_one_table_by_hand():
    n, eight = need(10_000), cluster(8)
    u = n.demand.unique
    seven = 7 / 8 * u
    for text in ("row", "table:3"):
        moved = flow(n, Sharding.parse(text), eight).of_a_requester(8)
        np.testing.assert_allclose(moved, [seven * 8, seven * 256, seven * 256, 0], rtol=1e-12)
    column = flow(n, Sharding("column"), eight).of_a_requester(8)
    np.testing.assert_allclose(column, [7 * u * 8, seven * 256, seven * 256, 0], rtol=1e-12)
    replicated = flow(n, Sharding("replicated"), eight).of_a_requester(8)
    np.testing.assert_allclose(replicated, [0, 0, 0, 2 * 7 / 8 * 10_000 * 256], rtol=1e-12)
    hot = flow(n, Sharding(hot_rows=100), eight).of_a_requester(8)
    cold = u - n.demand.forward[:100].sum()
    np.testing.assert_allclose(hot, [seven / u * cold * b for b in (8, 256, 256)] + [2 * 7 / 8 * 100 * 256], rtol=1e-12)


def test_one_rank_moves_nothing():
    for text in ("row", "table:0", "column", "replicated", "row+hot(10)"):
        moved = flow(need(10_000), Sharding.parse(text), cluster(1))
        assert not moved.of_a_requester(1).any()
        load = Load(cluster(1))
        load.add(Options(need(10_000), cluster(1)).effect(Sharding.parse(text)))
        assert load.step_seconds() == 0


def test_codecs_and_accumulation():
    n = need(10_000, Precision(forward="int8", backward="int4", topk=0.5, ids="int64"), accumulate=3)
    ids, rows, gradients, _ = flow(n, Sharding(), cluster(2)).of_a_requester(2)
    assert ids == pytest.approx(3 * 8 * n.demand.unique / 2)
    assert rows == pytest.approx(3 * 68 * n.demand.unique / 2)
    assert gradients == pytest.approx((0.5 * (36 + 4) + 0.125) * (n.demand.step.sum()) / 2)


def pairs(load):
    """[3, P, P]: bytes of ids, rows and gradients from rank i to rank j."""
    world = load.cluster.world
    asked = load.shared[:, None, None] + np.repeat(load.owned[:, None, :], world, 1)  # from requester to owner
    asked[1] = asked[1].T
    return asked * (1 - np.eye(world))


@pytest.mark.parametrize(("world", "per_node"), [(1, 1), (6, 6), (6, 3), (6, 1), (8, 2)])
def test_as_every_pair_counted(world, per_node):
    """Two whole tables on different owners, one by row: sums and maxima over the matrix of pairs."""
    c = cluster(world, per_node)
    load = Load(c)
    for rows, text in ((5000, "table:0"), (900, f"table:{world - 1}"), (7000, "row"), (300, "replicated")):
        load.add(Options(need(rows), c).effect(Sharding.parse(text)))
    moved = pairs(load)
    node = np.arange(world) // per_node
    for link, mask in ((0, node[:, None] == node[None, :]), (1, node[:, None] != node[None, :])):
        sent, received = load.sent_and_received(link)
        np.testing.assert_allclose(sent, (moved * mask).sum(2), rtol=1e-9, atol=1e-6)
        np.testing.assert_allclose(received, (moved * mask).sum(1), rtol=1e-9, atol=1e-6)
        off_diagonal = mask & ~np.eye(world, dtype=bool)
        if off_diagonal.any():
            forward, backward = load.busiest_pair(link)
            assert forward == pytest.approx((moved[0] + moved[1])[off_diagonal].max())
            assert backward == pytest.approx(moved[2][off_diagonal].max())


def test_a_step_takes_what_its_slowest_link_takes():
    c = cluster(4, 2)
    load = Load(c)
    load.add(Options(need(5000), c).effect(Sharding("table", 1)))
    load.add(Options(need(100), c).effect(Sharding("replicated")))
    u = need(5000).demand.unique
    seconds = load.seconds()
    assert seconds["rows"] == pytest.approx(2 * u * 256 / 50e9)  # owner 1 answers both ranks of the other node
    assert seconds["ids"] == pytest.approx(2 * u * 8 / 50e9)
    buffer = 100 * 256
    assert seconds["all-reduce"] == pytest.approx(buffer / 400e9 + buffer / 2 / 50e9)
    assert load.step_seconds() == pytest.approx(sum(seconds.values()))


def test_taking_away_undoes_adding():
    c = cluster(4, 2)
    load = Load(c)
    effects = [Options(need(rows), c).effect(Sharding.parse(t)) for rows, t in ((500, "table:1"), (900, "row+hot(9)"))]
    for effect in effects:
        load.add(effect)
    for effect in effects:
        load.add(effect, -1)
    assert np.abs(load.owned).max() < 1e-6
    assert load.memory.max() < 1e-6
    assert load.step_seconds() < 1e-12


@pytest.mark.parametrize(("rows", "world"), [(300, 8), (20_000, 8), (20_000, 32)])
def test_the_busiest_owner_as_drawn(rows, world):
    """Owners by a random hash, ids by Zipf's law, deduplicated on each rank: 60 hashes, one step of each.

    The variance over owners within 15 %, and the busiest owner's requests within 3 % of the mean prediction.
    """
    random, p = np.random.default_rng(0), exact_shares(rows, 1.05, 0, 0)
    variances, busiest = [], []
    for _ in range(60):
        owner, requests = random.integers(0, world, rows), np.zeros((world, world))
        for rank in range(world):
            ids = np.unique(random.choice(rows, B, p=p))
            requests[rank] = np.bincount(owner[ids], minlength=world)
        asked = (requests * (1 - np.eye(world))).sum(0)
        variances.append(((asked - (world - 1) * requests.mean()) ** 2).mean())
        busiest.append(asked.max())
    c = cluster(world, world)
    load = Load(c)
    load.add(Options(need(rows), c).effect(Sharding()))
    predicted = owner_variance(load.drawn, load.hashed, world - 1, world)[0] / 8**2
    assert predicted == pytest.approx(np.mean(variances), rel=0.15)
    top = (load.of_owners()[0].max(1) + load.excess()[0])[0] / 8
    assert top == pytest.approx(np.mean(busiest), rel=0.03)

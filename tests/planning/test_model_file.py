"""The model's file: what it may say, and where a mistake is."""

import pytest

from recis_core.planning import read_model

GOOD = """
name: m
batch_size: 4k
accumulate: 2
precision: {forward: bf16, backward: int8, topk: 0.25}
links: {intra_node_gb_per_s: 400, inter_node_gb_per_s: 25.5, ranks_per_node: 4}
reserve: 10GiB
defaults: {dim: 16, dtype: bfloat16, optimizer: sgd, features: [{pooling_factor: 1}]}
tables:
  - {name: a, rows: 1e9}
  - name: b
    rows: 10^6 rows
    dim: 32
    sharding: row+hot(10)
    precision: {forward: fp32}
    features: [{name: x, pooling_factor: 2.5, skew: 0, hot: 0.5}, {pooling_factor: 3, measured: {ids: 4k, unique: 900}}]
  - {name: c, rows: 5, sharding: table, id_bits: 20}
"""


def read(tmp_path, text):
    (tmp_path / "model.yaml").write_text(text)
    return read_model(tmp_path / "model.yaml")


def test_everything_it_may_say(tmp_path):
    model = read(tmp_path, GOOD)
    a, b, c = model.tables
    assert (model.batch_size, model.accumulate, model.reserve) == (4000, 2, 10 * 2**30)
    assert (a.rows, a.dim, a.dtype, a.optimizer, a.sharding) == (10**9, 16, "bfloat16", "sgd", None)
    assert (b.rows, b.dim, b.sharding, b.precision.backward) == (10**6, 32, "row+hot(10)", "fp32")
    assert (b.features[0].skew, b.features[1].measured.unique, c.sharding, c.id_bits) == (0, 900, "table", 20)
    assert model.links.ranks_per_node == 4
    assert model.parameters == 16 * 10**9 + 32 * 10**6 + 80


FEATURE = "features: [{pooling_factor: 1}]"
ONE = f"batch_size: 8\ntables: [{{name: a, rows: 9, dim: 4, {FEATURE}}}]\n"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("batch_size: 8\n", "", "batch_size: is missing."),
        ("rows: 9", "rows: many", "tables[0].rows: wanted a count such as 40000000, 40M, 1e9 or 10^9; got 'many'."),
        ("rows: 9", "rows: 0", "tables[0].rows: Input should be greater than or equal to 1; got 0."),
        ("rows: 9", "row: 9", "tables[0].row: there is no such key."),
        ("rows: 9", "rows: true", "tables[0].rows: wanted a count"),
        (
            "dim: 4",
            "dim: 4, dtype: float16",
            "tables[0].dtype: Input should be 'float32' or 'bfloat16'; got 'float16'.",
        ),
        ("dim: 4", "dim: 4, sharding: ring", "tables[0].sharding: sharding must read row, row+hot(1000)"),
        ("name: a", "name: no", "tables[0].name: Input should be a valid string; got False."),
        ("pooling_factor: 1", "pooling_factor: 0", "tables[0].features[0].pooling_factor: Input should be greater"),
        (
            "pooling_factor: 1",
            "pooling_factor: '1'",
            "tables[0].features[0].pooling_factor: Input should be a valid num",
        ),
        ("pooling_factor: 1", "pooling_factor: .inf", "tables[0].features[0].pooling_factor: Input should be a finite"),
        ("pooling_factor: 1", "pooling: 1", "tables[0].features[0].pooling: there is no such key."),
        ("pooling_factor: 1", "pooling_factor: 1, hot: 2", "tables[0].features[0].hot: Input should be less"),
        (
            "pooling_factor: 1",
            "pooling_factor: 1, skew: 1, measured: {ids: 9, unique: 3}",
            "tables[0].features[0]: give skew or measured, one of the two.",
        ),
        (
            "pooling_factor: 1",
            "pooling_factor: 1, measured: {ids: 9, unique: 30}",
            "tables[0].features[0]: unique must be at most ids = 9; got 30.",
        ),
        (FEATURE, "features: []", "tables[0].features: "),
        (FEATURE, "features: {pooling_factor: 1}", "tables[0].features: "),
        ("batch_size: 8", "batch_size: 8\nlinks: {ranks_per_node: 1.5}", "links.ranks_per_node: "),
        ("batch_size: 8", "batch_size: 8\nprecision: {forward: fp4}", "precision.forward: Input should be 'fp32', "),
        ("batch_size: 8", "batch_size: 8\nworld: 8", "world: there is no such key."),
        ("batch_size: 8", "batch_size: 8\nbatch_size: 9", "key 'batch_size' is given twice"),
        ("batch_size: 8", "batch_size: 8\nreserve: much", "reserve: wanted a size such as 80GB"),
        ("batch_size: 8", "batch_size: 8\ndefaults: {name: b}", "defaults: wanted a mapping of table keys other than"),
        ("batch_size: 8", "batch_size: 8\ndefaults: {dims: 3}", "tables[0].dims: there is no such key."),
        (ONE, "- 3", "must hold a mapping with batch_size and tables; got list."),
        (ONE, "batch_size: 8\ntables: 3", "tables: "),
        (ONE, "a: [", "is not YAML"),
        (ONE, "a: &a [*a]", "is not YAML"),
        (ONE, "a: " + "[" * 3000, "nests too deeply"),
        ("dim: 4", "dim: 4, ? [1] : 2", "is not YAML"),
        ("pooling_factor: 1", "pooling_factor: 1, skew: .nan", "tables[0].features[0].skew: "),
    ],
)
def test_mistakes_name_their_place(tmp_path, old, new, message):
    assert old in ONE
    with pytest.raises(ValueError) as raised:
        read(tmp_path, ONE.replace(old, new))
    assert "model.yaml" in str(raised.value)
    assert message in str(raised.value)


def test_all_mistakes_are_told_at_once(tmp_path):
    with pytest.raises(ValueError) as raised:
        read(tmp_path, ONE.replace("rows: 9", "rows: x").replace("dim: 4", "dim: y"))
    assert len(str(raised.value).splitlines()) == 3


def test_names_are_distinct(tmp_path):
    table = f"{{name: a, rows: 9, dim: 4, {FEATURE}}}"
    with pytest.raises(ValueError, match="tables need distinct names; 'a' is there twice"):
        read(tmp_path, f"batch_size: 8\ntables: [{table}, {table}]")
    twice = "features: [{name: x, pooling_factor: 1}, {name: x, pooling_factor: 1}]"
    with pytest.raises(ValueError, match="features need distinct names; 'x' is there twice"):
        read(tmp_path, ONE.replace(FEATURE, twice))


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_model(tmp_path / "none.yaml")

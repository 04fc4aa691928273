"""A decoder beside tables, on one process: what stands where, what is predicted, and that training it is as it should be."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from recis_core.models.llm import PADDING, DecoderWithTables
from recis_core.nn import EmbeddingOption
from recis_core.serialize import CheckpointManager, EverySteps
from tests.models.llm_models import (
    BIG,
    SIZES,
    H,
    V,
    batch,
    config,
    differing,
    features,
    halves,
    model_of,
    options,
    ragged,
    trainer_of,
    weights_of,
)  # fmt: skip

USER, CONTEXT, ITEM = V, V + 1, V + 2


def test_a_sequence_of_parts() -> None:
    given = {"user": torch.tensor([7, 8]), "item": ragged([[5], [6, 6, 9]]), "title": ragged([[10, 11], []])}
    tokens = model_of().sequence(given, [1, 2], "user", "title", [3], "item")
    assert tokens.values().tolist() == [1, 2, USER, 10, 11, 3, ITEM, 1, 2, USER, 3, ITEM, ITEM, ITEM]
    assert tokens.lengths().tolist() == [7, 7]


def alone(model: DecoderWithTables, given: dict[str, Any], row: int) -> torch.Tensor:
    """The decoder's output [T, H] of one row, whose inputs are put together one by one."""
    ids = {
        name: iter((given[name].rows(row, row + 1).values() if name == "item" else given[name][row : row + 1]).tolist())
        for name in ("user", "context", "item")
    }
    inputs = []
    for token in given["tokens"].rows(row, row + 1).values().tolist():
        if token < V:
            inputs.append(model.decoder.get_input_embeddings().weight[token])
            continue
        name = ("user", "context", "item")[token - V]
        vector = model.engine.tables.get_submodule(name)(torch.tensor([next(ids[name])]))
        linear = model.inward[f"of {name}"].linear
        inputs.append(vector[0] if linear is None else vector[0] @ linear.weight.T)
    return model.decoder(inputs_embeds=torch.stack(inputs)[None], output_hidden_states=True).hidden_states[-1][0]


def test_each_position_predicts_what_comes_next() -> None:
    """By loops over rows and positions: items among all candidates, tokens by the head."""
    model, given = model_of(language=True, in_batch=True), batch(3)
    got = model(given)
    items = given["item"].values()
    pool = torch.tensor(sorted({*items.tolist(), *given["candidates"].tolist()}))
    rows = model.engine.table("item").lookup(pool)[0]
    item, token, count = 0.0, 0.0, 0
    for row in range(4):
        hidden, tokens = alone(model, given, row), given["tokens"].rows(row, row + 1).values().tolist()
        mine = iter(given["item"].rows(row, row + 1).values().tolist())
        for place, wanted in enumerate(tokens):
            if wanted in (USER, CONTEXT) or place == 0:
                continue
            count += 1
            if wanted == ITEM:
                scores = rows.double() @ model.outward(hidden[place - 1]).double()
                item -= scores.log_softmax(0)[pool.tolist().index(next(mine))]
            else:
                logits = model.decoder.get_output_embeddings()(hidden[place - 1]).double()
                token -= logits.log_softmax(0)[wanted]
    assert count == model.predicted(given)
    torch.testing.assert_close(got["item"].double(), item / count, rtol=1e-5, atol=0)
    torch.testing.assert_close(got["token"].double(), token / count, rtol=1e-5, atol=0)


def test_scores_of_what_comes_next() -> None:
    model, given = model_of().eval(), batch(3)
    model.train()(given)
    model.eval()
    candidates = torch.tensor([BIG + 3, BIG + 1, BIG + 7])
    scores = model.score(given, candidates)
    want = [model.outward(alone_hidden(model, given, row)) for row in range(4)]
    torch.testing.assert_close(scores, torch.stack(want) @ model.engine.table("item").lookup(candidates)[0].T)


def alone_hidden(model: DecoderWithTables, given: dict[str, Any], row: int) -> torch.Tensor:
    """At the last position of a row that is alone in its batch."""
    one = {n: v[row : row + 1] if isinstance(v, torch.Tensor) else v.rows(row, row + 1) for n, v in given.items()}
    return model._hidden(*_read(model, one))[0, -1]


def _read(model: DecoderWithTables, given: dict[str, Any]) -> Any:
    from recis_core.models.llm.sequence import read_layout

    return read_layout(given, model.vocabulary), model._rows(given, torch.zeros(0, dtype=torch.int64))


@pytest.mark.parametrize("kind", ["padded", "llama", "a model of mine", "no rows in it"])
def test_other_forms(kind: str) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    given = batch(1)
    if kind == "padded":
        torch.testing.assert_close(
            model_of()({**given, "tokens": given["tokens"].to_dense(PADDING)}), model_of()(given)
        )
    if kind == "llama":
        model = model_of(LlamaConfig(**SIZES))
        losses = [step.loss for step in [trainer_of(model, []).train_step([given]) for _ in range(2)]]
        assert losses[1] < losses[0]
    if kind == "a model of mine":
        mine = LlamaForCausalLM(LlamaConfig(**SIZES))
        model = model_of(mine, language=True)
        assert model.decoder is mine
        assert set(model(given)) == {"item", "token"}
    if kind == "no rows in it":
        nothing = {n: v[:0] if isinstance(v, torch.Tensor) else v.rows(0, 0) for n, v in given.items()}
        model = model_of(language=True)
        losses = model(nothing)
        assert (losses["item"].item(), losses["token"].item()) == (0, 0)
        sum(losses.values()).backward()  # every parameter takes part, as ranks beside expect
        assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_checkpointed_activations_have_the_same_bits_and_look_up_once() -> None:
    runs = []
    for how in ("none", "blocks", "all of the model"):
        model = model_of(options=options(filter_hook="lru(1e6)"), checkpointing=how == "blocks")
        called = []
        model.decoder.base_model.layers[0].self_attn.register_forward_hook(lambda *_, called=called: called.append(1))
        trainer = trainer_of(model, [])
        if how == "all of the model":
            forward = model.forward
            model.forward = lambda given, forward=forward: checkpoint(forward, given, use_reentrant=False)
        losses = [trainer.train_step([batch(k)]).loss for k in range(2)]
        runs.append((losses, weights_of(model), model.engine.stats(), len(called)))
    assert [run[3] for run in runs] == [2, 4, 4]  # each forward of a block is computed twice
    for run in runs[1:]:
        assert run[0] == runs[0][0]
        assert differing(run[1], runs[0][1]) == []
        assert run[2] == runs[0][2]  # lookups, hits, rows


def test_two_batches_of_a_step_train_as_one() -> None:
    """Of one and of three rows, which predict unequally many items."""
    whole, cut = (model_of(in_batch=False, language=True) for _ in range(2))
    one, two = trainer_of(whole, [], kind="sgd"), trainer_of(cut, [], kind="sgd")
    for k in range(2):
        got, want = two.train_step(halves(batch(k))), one.train_step([batch(k)])
        assert got.loss == pytest.approx(want.loss, rel=1e-5)
        assert got.rows == want.rows == whole.predicted(batch(k))
    torch.testing.assert_close(weights_of(cut), weights_of(whole), rtol=1e-4, atol=1e-6)
    assert differing(whole, model_of(in_batch=False, language=True))  # they have moved


def manager_in(folder: Path) -> CheckpointManager:
    return CheckpointManager(folder, save=EverySteps(2))


def lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=2, lora_alpha=4, target_modules=["q_proj", "v_proj"], lora_dropout=0.1)


@pytest.mark.parametrize("adapters", [False, True], ids=["all of it", "LoRA"])
def test_a_resumed_run_has_the_same_bits(tmp_path: Path, adapters: bool) -> None:
    """Saved behind training, every second of five steps; dropout of adapters reads random numbers."""

    def made(seed: int, first: int) -> Any:
        model = model_of(lora=lora() if adapters else None, checkpointing=True, seed=seed)
        data = [batch(k) for k in range(5)]
        return trainer_of(model, data, seed=first, more={"checkpoints": manager_in(tmp_path)})

    whole = made(0, 1)
    whole.train(4)
    whole.train()
    again = made(9, 2)
    assert differing(again.model, whole.model)
    assert again.restore(2).step == 2
    again.train()
    assert again.heard.losses == whole.heard.losses[2:]
    assert differing(again.model, whole.model) == []


def test_lora_trains_adapters_projections_and_tables_alone() -> None:
    from peft import get_peft_model_state_dict

    model = model_of(lora=lora(), language=True)
    before = weights_of(model)
    trainer = trainer_of(model, [batch(k) for k in range(3)])
    trainer.train()
    moved = {name for name in differing(model, before) if "." in name}
    assert moved
    assert all(name.startswith(("inward.", "outward.")) or ".lora_" in name for name in moved)
    assert {name for name in before if ".lora_" in name} <= moved
    assert len(model.engine.table("item")) > 0
    assert set(get_peft_model_state_dict(model.decoder)) == {
        name.removeprefix("decoder.").replace(".default", "") for name in before if ".lora_" in name
    }


def test_evaluation_makes_no_rows() -> None:
    model = model_of()
    trainer = trainer_of(model, [])
    trainer.train_step([batch(0)])
    held = {name: len(table) for name, table in model.engine.sparse_parameters().items()}
    unseen = {**batch(1), "item": batch(1)["item"].with_values(batch(1)["item"].values() + 1000)}
    assert set(trainer.evaluate([unseen, batch(2)])) == {"loss", "item"}
    model.eval()
    assert model.score(unseen, torch.tensor([1, BIG + 3]))[:, 0].tolist() == [0.0] * 4  # an item without a row
    assert {name: len(table) for name, table in model.engine.sparse_parameters().items()} == held


def test_bfloat16_is_near_float32() -> None:
    losses = [trainer_of(model_of(), [batch(0)] * 3, mixed_precision=how) for how in (None, "bf16")]
    for trainer in losses:
        trainer.train()
    assert losses[0].heard.losses != losses[1].heard.losses
    assert losses[1].heard.losses == pytest.approx(losses[0].heard.losses, rel=2e-2)


def changed(**other: Any) -> dict[str, Any]:
    return {**batch(0), **other}


WRONG_BATCHES = [
    (lambda: features(0), KeyError, "a batch must hold 'tokens'; it has ['user', 'context', 'title', 'item']"),
    (lambda: {n: v for n, v in batch(0).items() if n != "user"}, KeyError, "features ['user'] have a table and are missing"),
    (lambda: changed(tokens=torch.randn(4, 5)), TypeError, "tokens must be integers in a RaggedTensor or a Tensor [B, T]"),
    (lambda: changed(tokens=torch.ones(4, 5, 2, dtype=torch.int64)), ValueError, "tokens must be [B, T]"),
    (lambda: changed(tokens=features(0)["item"]), ValueError, "Ids of tables stand under their feature's name"),
    (lambda: changed(tokens=torch.full((4, 3), -7)), ValueError, "got -7"),
    (lambda: changed(tokens=torch.tensor([[1, PADDING, 2]] * 4)), ValueError, "behind the end of a row alone"),
    (lambda: changed(tokens=torch.ones(4, 33, dtype=torch.int64)), ValueError, "may have 32 positions"),
    (lambda: changed(user=torch.arange(8).view(4, 2)), ValueError, "row 0 has 1 placeholders and 2 ids"),
    (lambda: changed(user=torch.arange(3)), ValueError, "as many rows as the tokens = 4; got 3"),
    (lambda: changed(item=[1, 2]), TypeError, "feature 'item' must be a Tensor [B] or [B, n] or a RaggedTensor; got list"),
    (lambda: changed(user=torch.ones(4)), TypeError, "ids of feature 'user' must be integers; got torch.float32"),
    (lambda: changed(candidates=torch.ones(4)), TypeError, "'candidates' must be integers; got torch.float32"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "kind", "says"), WRONG_BATCHES, ids=[says[:40] for _, _, says in WRONG_BATCHES])
def test_wrong_batches(given: Any, kind: type[Exception], says: str) -> None:
    model = model_of()
    with pytest.raises(kind) as found:
        model(given())
    assert says in str(found.value)
    assert len(model.engine.table("item")) == 0


def pooled() -> Any:
    return {**options(), "user": EmbeddingOption(4, combiner="mean")}


def with_encoder() -> Any:
    from transformers import T5Config

    return T5Config()


def looks_ahead() -> Any:
    from transformers import BertConfig

    return BertConfig(**{**SIZES, "num_hidden_layers": 1})


WRONG_MODELS = [
    (lambda: model_of("Qwen/Qwen3-8B"), TypeError, "a config or a model of transformers, such as Qwen3Config(…)"),
    (lambda: model_of(with_encoder()), ValueError, "T5Config has an encoder, too"),
    (lambda: model_of(looks_ahead()), ValueError, "causal attention, or each position would see the one it predicts"),
    (lambda: model_of(model_of().decoder, language=True), ValueError, "language=True needs a decoder with a head"),
    (lambda: model_of(item="movie"), ValueError, "['user', 'context', 'item']; got 'movie'"),
    (lambda: model_of(options=pooled()), ValueError, "must have combiner='none', for each id has a position"),
    (lambda: model_of(options={"item": EmbeddingOption(4, padding_id=0)}), ValueError, "must have no padding_id"),
    (lambda: model_of(options={"item": 4}), TypeError, "the option of 'item' must be an EmbeddingOption; got int"),
    (lambda: model_of(options={**options(), "tokens": EmbeddingOption(4)}), ValueError, "must not be named ['tokens']"),
    (lambda: model_of(lora={"r": 4}), TypeError, "lora must be a peft.LoraConfig, or None; got dict"),
    (lambda: model_of(in_batch=False)(features(0) | {"tokens": batch(0)["tokens"]}), KeyError, "with in_batch=False"),
    (lambda: model_of().sequence({}, [1, 2]), ValueError, "parts must name a key of the batch at least once"),
    (lambda: model_of().sequence(features(0), "shop"), KeyError, "parts name 'shop', which the batch lacks"),
    (lambda: model_of().score(batch(0), torch.ones(2, 2).long()), ValueError, "candidates must be [C]; got [2, 2]"),
    (lambda: model_of().score({**batch(0), **EMPTY_ROW}, torch.arange(3)), ValueError, "each row must have a token"),
    (lambda: model_of().sequence({**features(0), "title": torch.ones(3).long()}, "user", "title"), ValueError, "'title' has 3"),
    (lambda: model_of().sequence({**features(0), "title": torch.ones(4)}, "user", "title"), TypeError, "tokens of 'title'"),
]  # fmt: skip
EMPTY_ROW = {
    "tokens": ragged([[1], []]), "item": ragged([[], []]), "user": ragged([[], []]), "context": ragged([[], []]),
}  # fmt: skip


@pytest.mark.parametrize(("made", "kind", "says"), WRONG_MODELS, ids=[says[:40] for _, _, says in WRONG_MODELS])
def test_wrong_models(made: Any, kind: type[Exception], says: str) -> None:
    with pytest.raises(kind) as found:
        made()
    assert says in str(found.value)


@pytest.mark.parametrize("package", ["transformers", "peft"])
def test_without_the_extra(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given, adapters = config(), lora()
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ModuleNotFoundError, match=rf"needs {package}, which is not installed: .*recis-core\[llm\]"):
        model_of(given, lora=adapters)


def test_width_without_projections() -> None:
    model = model_of(options={"item": EmbeddingOption(H, backend="torch")})
    given = {"item": batch(0)["item"]}
    given["tokens"] = model.sequence(given, [1], "item")
    assert [name for name, _ in model.named_parameters() if "ward" in name] == []
    assert model(given)["item"].item() > 0

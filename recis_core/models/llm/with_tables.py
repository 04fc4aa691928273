"""A decoder that reads tokens of text and rows of tables in one sequence, and predicts what comes next.

Sizes: B rows of a batch, T positions of the longest, V tokens of the vocabulary, H width of the decoder, D dim of a table, P
positions that predict an item, C candidates.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recis_core.models.llm.candidates import candidates_among
from recis_core.models.llm.decoder import decoder_of
from recis_core.models.llm.feature_options import CANDIDATES, unpooled
from recis_core.models.llm.parts import join_parts
from recis_core.models.llm.projection import Projection
from recis_core.models.llm.sequence import Layout, Vocabulary, read_layout, tokens_of
from recis_core.models.losses import sampled_softmax
from recis_core.nn import EmbeddingEngine, EmbeddingOption
from recis_core.nn.id_input import as_ids
from recis_core.ragged import RaggedTensor


class DecoderWithTables(nn.Module):
    """An autoregressive model of sequences in which tokens of text stand beside users, items and context.

        tokens     [ 5  9 | user | 7 | item item item ]
                       ↓      ↓    ↓     ↓    ↓    ↓      the decoder's own embedding, or a row of a table, projected
                     ——————————— decoder ————————————
                                   ↓     ↓    ↓           vectors in the item table's space
                                 item  item  item         each beside candidates' rows: a softmax

    The position before each item predicts that item, among candidates: the items that all ranks' batches predict, and the ids
    that the batch holds under "candidates", such as negatives drawn from the catalogue, or all of it. With language=True the
    position before each token predicts that token, by the decoder's own head. Users and context are read, never predicted.

    Args:
      decoder: a config of transformers (Qwen, Llama, Mistral, …), from which a decoder of random weights is built, or a
        PreTrainedModel of yours.
      options: {feature: EmbeddingOption}. Each id has a position and a row of its own, so combiner is "none", which the
        default "sum" stands for. Where embedding_dim is not the decoder's width, a linear layer projects rows.
      item: the feature that is predicted.
      in_batch: whether the targets of all ranks are candidates. Then a step over half the batch has fewer of them; without,
        accumulated batches train as one. They are not corrected for how often they occur.
      language: whether tokens are predicted, too.
      lora: a peft.LoraConfig: the decoder is frozen, but for adapters; these, the projections and the tables train.
      checkpointing: whether blocks compute their activations again in backward. Lookups stay outside, and happen once.
      seed: of the dense parameters' initial values, equal on all ranks. Tables have their option's.

    engine: the EmbeddingEngine. decoder: the PreTrainedModel. vocabulary: its size, placeholders and longest sequence.

    Raises:
      ModuleNotFoundError: transformers or peft is not installed. TypeError: an argument is of another kind.
      ValueError: item has no option, or a padding_id; an option pools; the decoder has an encoder, no causal attention, or no
        head where language is wanted.

    Rows projected into a decoder's input, and items scored by a projection of its output: E4SRec, Li et al. 2023,
    arXiv:2312.02443; rows beside text: CoLLM, Zhang et al. 2023, arXiv:2310.19488. LoRA: Hu et al. 2021, arXiv:2106.09685.
    """

    decoder: Any

    def __init__(
        self,
        decoder: Any,
        options: Mapping[str, EmbeddingOption],
        item: str = "item",
        *,
        in_batch: bool = True,
        language: bool = False,
        lora: Any = None,
        checkpointing: bool = False,
        seed: int = 0,
    ) -> None:
        super().__init__()
        each = unpooled(options, item)
        self.item, self.in_batch, self.language = item, in_batch, language
        self.decoder = decoder_of(decoder, language=language, lora=lora, checkpointing=checkpointing, seed=seed)
        embedding = self.decoder.get_input_embeddings()
        longest = getattr(self.decoder.config, "max_position_embeddings", None)
        self.vocabulary = Vocabulary(embedding.num_embeddings, longest, tuple(options))
        self.engine = EmbeddingEngine(each)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            width = embedding.embedding_dim
            self.inward = nn.ModuleDict({f"of {n}": Projection(o.embedding_dim, width) for n, o in options.items()})
            self.outward = Projection(width, each[item].embedding_dim)

    @property
    def placeholders(self) -> dict[str, int]:
        """{feature: the token at whose positions its rows stand}, from V upward."""
        return self.vocabulary.placeholders

    def sequence(self, batch: Mapping[str, Any], *parts: Any) -> RaggedTensor:
        """Tokens of a batch, row by row: model.sequence(batch, [5, 9], "user", [7], "title", "item").

        Args:
          parts: in order: tokens that every row has; a feature's name, for placeholders of its ids; or another key of the
            batch, which holds tokens of each row, [B], [B, n] or ragged.

        Raises:
          KeyError: the batch lacks a key. TypeError, ValueError: a key's value is not [B], [B, n] or ragged, has other rows than
            the first one's, or holds no integers.
        """
        return join_parts(batch, parts, self.vocabulary)

    def predicted(self, batch: Mapping[str, Any]) -> int:
        """How many positions the loss is a mean over. As the Trainer's rows=, batches and ranks weigh by it."""
        tokens = tokens_of(batch)[:, 1:]
        wanted = tokens == self.placeholders[self.item]
        if self.language:
            wanted |= (tokens >= 0) & (tokens < self.vocabulary.size)
        return int(wanted.sum())

    def forward(self, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        """{"item": loss} or {"item": loss, "token": loss}, float32, 0-d. Collective, in eval, too.

        Each is a sum over its positions, divided by all positions that are predicted, so that their sum is the mean; 0 where
        there is none.

        Args:
          batch: "tokens": RaggedTensor of int64 rows, or a Tensor [B, T] with PADDING behind the end of shorter rows: tokens of
            text in [0, V), and placeholders. {feature: ids [B], [B, n] or a RaggedTensor}, as many in each row as the
            row has placeholders of it. "candidates", if there: ids of items, of any shape.

        Raises:
          KeyError: the batch lacks tokens or a feature. TypeError: they are no integers.
          ValueError: a token is outside the vocabulary, a sequence is too long, or placeholders and ids differ in number.
        """
        with self._together():
            layout = read_layout(batch, self.vocabulary)
            targets, places, own = self._targets(layout, batch)
            given = self._given(batch)
        candidates = candidates_among(targets, given, self._channel, in_batch=self.in_batch)
        rows = self._rows(batch, candidates)
        hidden = self._hidden(layout, rows).flatten(0, 1)
        vectors = self.outward(hidden[places - 1])
        own_rows, others = rows[self.item][own].float(), rows[CANDIDATES].float()
        losses = sampled_softmax(vectors.float(), own_rows, targets, others, candidates)
        sums, count = {"item": losses.sum()}, len(losses)
        if self.language:
            tokens = self._token_losses(layout, hidden)
            sums["token"], count = tokens.sum(), count + len(tokens)
        return {name: value / max(count, 1) for name, value in sums.items()}

    def score(self, batch: Mapping[str, Any], candidates: Tensor) -> Tensor:
        """Each candidate's logit as what comes next after each row's last position: float32 [B, C]. Collective.

        batch: as forward's; without "candidates". candidates: ids of items [C]; one without a row scores as its
        option's `unknown` says.

        Raises: as forward. ValueError: candidates are not [C], or a row has no token.
        """
        with self._together():
            layout = read_layout(batch, self.vocabulary)
            ids, last = as_ids(candidates, CANDIDATES), (layout.tokens >= 0).sum(1) - 1
            if ids.dim() != 1:
                raise ValueError(f"candidates must be [C]; got {list(ids.shape)}.")
            if bool((last < 0).any()):
                raise ValueError("each row must have a token at least, after which an item comes; some have none.")
        rows = self._rows(batch, ids)
        hidden = self._hidden(layout, rows)[: len(last)]
        vectors = self.outward(hidden[torch.arange(len(last), device=last.device), last])
        return vectors.float() @ rows[CANDIDATES].float().T

    @property
    def _channel(self) -> Any:
        return None if self.engine.exchange is None else self.engine.exchange.channel

    def _together(self) -> Any:
        """An error inside is raised on all ranks."""
        return nullcontext() if self._channel is None else self._channel.failing_together("forward")

    def _targets(self, layout: Layout, batch: Mapping[str, Any]) -> tuple[Tensor, Tensor, Tensor]:
        """Of items that are predicted: ids [P], places in tokens.flatten() [P], and which of the feature's ids they are [P]."""
        value, places = batch[self.item], layout.places[self.item]
        ids = as_ids(value.values() if isinstance(value, RaggedTensor) else value.flatten(), f"ids of {self.item!r}")
        own = (~layout.begins[places]).nonzero()[:, 0]
        return ids[own], places[own], own

    def _given(self, batch: Mapping[str, Any]) -> Tensor | None:
        """The batch's candidates [C], or None."""
        if CANDIDATES in batch:
            return as_ids(batch[CANDIDATES], f"the batch's {CANDIDATES!r}").flatten()
        if not self.in_batch:
            raise KeyError(f"with in_batch=False a batch must hold {CANDIDATES!r}, ids of items; it has {list(batch)}.")
        return None

    def _rows(self, batch: Mapping[str, Any], candidates: Tensor) -> dict[str, Tensor]:
        """{feature, or "candidates": [N, D]}, of all ids in one lookup."""
        found = self.engine({**{name: batch[name] for name in self.vocabulary.features}, CANDIDATES: candidates})
        return {name: cast(RaggedTensor, value).values() for name, value in found.items()}

    def _hidden(self, layout: Layout, rows: Mapping[str, Tensor]) -> Tensor:
        """The decoder's output [B, T, H]; a batch without rows has one of padding, for decoders need one."""
        tokens = layout.tokens if layout.tokens.numel() else layout.tokens.new_full((1, 1), -1)
        text = torch.where(tokens < self.vocabulary.size, tokens, 0).clamp(min=0)
        inputs = self.decoder.get_input_embeddings()(text)
        mixed = inputs.flatten(0, 1)
        for name, places in layout.places.items():
            mixed = mixed.index_copy(0, places, self.inward[f"of {name}"](rows[name]).to(mixed.dtype))
        found: Tensor = self.decoder.base_model(inputs_embeds=mixed.view_as(inputs), use_cache=False).last_hidden_state
        return found

    def _token_losses(self, layout: Layout, hidden: Tensor) -> Tensor:
        """-log softmax of each token that is predicted, by the decoder's head: float32 [tokens]."""
        tokens = layout.tokens.flatten()
        places = ((tokens >= 0) & (tokens < self.vocabulary.size) & ~layout.begins).nonzero()[:, 0]
        logits = self.decoder.get_output_embeddings()(hidden[places - 1])
        return F.cross_entropy(logits.float(), tokens[places], reduction="none")

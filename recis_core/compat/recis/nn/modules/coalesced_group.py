"""Features whose tables share one storage in RecIS: those of equal coalesced_info()."""

from __future__ import annotations

import hashlib
from typing import Any

from recis_core.compat.recis.nn.modules.embedding_option import EmbeddingOption


class HashTableCoalescedGroup:
    """Options by feature; a shared_name's number among the group's is in the upper bits of encoded ids."""

    def __init__(self, name: str) -> None:
        self._name = name
        self.options: dict[str, EmbeddingOption] = {}
        self._children: dict[str, int] = {}

    def add_option(self, fea_name: str, emb_opt: EmbeddingOption) -> None:
        self.options[fea_name] = emb_opt
        self._children.setdefault(emb_opt.shared_name, len(self._children))

    def runtime_info(self, fea_name: str) -> str:
        """Features of equal text are looked up in one call."""
        return self.options[fea_name].runtime_info()

    def encode_id(self, fea_name: str) -> int:
        return self._children[self.options[fea_name].shared_name]

    def children_info(self, fea_name: str) -> dict[str, Any]:
        option = self.options[fea_name]
        names = ("combiner", "use_weight", "combiner_kwargs", "admit_hook", "fp16_enabled")
        return {"dim": option.embedding_dim, **{name: getattr(option, name) for name in names}}

    @property
    def children(self) -> list[str]:
        return list(self._children)

    def embedding_info(self) -> EmbeddingOption:
        """The option of the storage. Raises RuntimeError: no feature was added."""
        if not self.options:
            raise RuntimeError(f"group {self._name} has no features yet.")
        first = next(iter(self.options.values()))
        return EmbeddingOption(
            embedding_dim=first.embedding_dim, dtype=first.dtype, device=first.device, pg=first.pg,
            shared_name=self._name, children=self.children, coalesced=True, initializer=first.initializer,
            grad_reduce_by=first.grad_reduce_by, filter_hook=first.filter_hook,
        )  # fmt: skip


def groups_of(options: dict[str, EmbeddingOption]) -> dict[str, HashTableCoalescedGroup]:
    """Groups by RecIS's name of their storage.

    Raises:
      RuntimeError: two options for one shared_name need different storages.
    """
    groups: dict[str, HashTableCoalescedGroup] = {}
    homes: dict[str, str] = {}
    for feature, option in options.items():
        info = option.coalesced_info()
        name = f"CoalescedHashtable_{hashlib.sha256(info.encode()).hexdigest()}"
        if homes.setdefault(option.shared_name, name) != name:
            other = next(iter(groups[homes[option.shared_name]].options.values()))
            raise RuntimeError(
                f"features of table {option.shared_name!r} must agree on dim, dtype, device, initializer, grad_reduce_by and "
                f"filter_hook; {feature!r} has {info}, another {other.coalesced_info()}."
            )
        groups.setdefault(name, HashTableCoalescedGroup(name)).add_option(feature, option)
    return groups

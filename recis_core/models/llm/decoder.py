"""A decoder of `transformers`: built from a config or given, with LoRA and checkpointed activations where asked.

transformers and peft are imported here, when a model is made, and nothing is downloaded.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

WAY_OUT = "which is not installed: pip install 'recis-core[llm]'."


def decoder_of(given: Any, *, language: bool, lora: Any, checkpointing: bool, seed: int) -> nn.Module:
    """A PreTrainedModel: `given` itself, or one of random weights if it is a PreTrainedConfig.

    Raises: see DecoderWithTables.
    """
    decoder = _built(given, language, seed) if _is_config(given) else _checked(given, language)
    if not any(getattr(module, "is_causal", False) is True for module in decoder.modules()):
        raise ValueError(
            f"decoder must have causal attention, or each position would see the one it predicts; {type(decoder).__name__} "
            "has none. Use a decoder such as Qwen3Config's or LlamaConfig's."
        )
    if lora is not None:
        _add_lora(decoder, lora, seed)
    if checkpointing:
        _checkpoint_blocks(decoder)
    return decoder


def _is_config(given: Any) -> bool:
    return isinstance(given, _transformers().PretrainedConfig)  # version 4's name, which version 5 keeps


def _transformers() -> Any:
    try:
        import transformers
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"DecoderWithTables needs {error.name}, {WAY_OUT}") from error
    return transformers


def _built(config: Any, language: bool, seed: int) -> nn.Module:
    if getattr(config, "is_encoder_decoder", False):
        raise ValueError(f"decoder must be of a decoder alone; {type(config).__name__} has an encoder, too.")
    transformers = _transformers()
    auto = transformers.AutoModelForCausalLM if language else transformers.AutoModel
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return auto.from_config(config)


def _checked(given: Any, language: bool) -> nn.Module:
    if not isinstance(given, _transformers().PreTrainedModel):
        raise TypeError(
            "decoder must be a config or a model of transformers, such as Qwen3Config(…) or LlamaForCausalLM(config); got "
            f"{type(given).__name__}."
        )
    if language and given.get_output_embeddings() is None:
        raise ValueError(
            f"language=True needs a decoder with a head over tokens; {type(given).__name__} has none. Use its …ForCausalLM."
        )
    return given


def _add_lora(decoder: nn.Module, lora: Any, seed: int) -> None:
    """Freeze the decoder, and put adapters into it."""
    try:
        import peft
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"lora= needs {error.name}, {WAY_OUT}") from error
    if not isinstance(lora, peft.LoraConfig):
        raise TypeError(f"lora must be a peft.LoraConfig, or None; got {type(lora).__name__}.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(lora, decoder)


def _checkpoint_blocks(decoder: Any) -> None:
    how = {"use_reentrant": False}
    enable = getattr(decoder, "activation_checkpointing_enable", None) or decoder.gradient_checkpointing_enable
    enable(how)


def blocks_of(decoder: Any) -> list[nn.Module]:
    """The layers that `transformers` says must not be split, in order."""
    names = set(decoder._no_split_modules or ())
    return [module for module in decoder.modules() if type(module).__name__ in names]

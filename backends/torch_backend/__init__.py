"""The plain PyTorch backend: any device, short, the fallback everywhere."""

from recis_core.backends.torch_backend.backend import TorchBackend


def create_backend() -> TorchBackend:
    return TorchBackend()


__all__ = ["TorchBackend", "create_backend"]

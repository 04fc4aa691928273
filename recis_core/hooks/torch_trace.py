"""What torch does in some steps, as a file for Perfetto."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile


class TorchTrace:
    """Records from now on, of the CPU, and with `devices` of CUDA devices where there are any."""

    def __init__(self, path: Path, *, devices: bool = True) -> None:
        activities = [ProfilerActivity.CPU]
        if devices and torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._path, self._profile = path, profile(activities=activities)
        self._profile.start()

    def finish(self) -> Path:
        """Write the file, Chrome's JSON, gzipped."""
        self._profile.stop()
        self._profile.export_chrome_trace(str(self._path))
        return self._path

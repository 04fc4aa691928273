"""What torch does in some steps, as a file for Perfetto."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from recis_core.backends.errors import RecisError


class TorchTrace:
    """Records from now on, of the CPU, and with `devices` of CUDA devices where there are any.

    Raises:
      RecisError: another profiler of torch is recording, which this one would break off.
    """

    def __init__(self, path: Path, *, devices: bool = True) -> None:
        if torch.autograd._profiler_enabled():
            raise RecisError(
                "another profiler of torch is recording, and torch has one at a time. End it before the steps that "
                "ProfilerHook records, or leave the hook out."
            )
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

"""What of a machine decides how a training is computed, so that equal keys mean equal bytes. Imports no TensorFlow."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Final

GPUS: Final = "proc/driver/nvidia/gpus/*/information"
# Of what TensorFlow reads from the environment, that which people set and which changes how it computes.
FLAGS: Final = ("TF_NUM_INTRAOP_THREADS", "TF_XLA_FLAGS", "XLA_FLAGS")
GPU_FLAGS: Final = ("CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE", "TF_CUDNN_DETERMINISTIC", "TF_DETERMINISTIC_OPS")


def replicas_on(processors: int) -> int:
    """Parts that a batch is cut into: two use two cores; more parts get too small to gain anything."""
    return min(2, processors)


def traits(processors: int) -> dict[str, str]:
    """By name, for the key of a training on so many processors: products are shared out among as many threads."""
    gpus = ", ".join(path.parent.name for path in sorted(Path("/").glob(GPUS)))
    names = (*FLAGS, *GPU_FLAGS) if gpus else FLAGS
    return {
        "machine": platform.machine(),
        "processor": _vector_instructions(),
        "processors": str(processors),
        "GPU": gpus,
        "flags": ", ".join(f"{name}={os.environ[name]}" for name in names if name in os.environ),  # noqa: TID251
    }


def _vector_instructions() -> str:
    """Those that decide how XLA compiles; empty where the system does not tell."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return platform.processor()
    flags = next((line for line in text.splitlines() if line.startswith(("flags", "Features"))), "")
    return " ".join(
        sorted(flag for flag in flags.split() if flag.startswith(("avx", "fma", "sse4", "asimd", "sve", "amx")))
    )

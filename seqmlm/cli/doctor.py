"""seqmlm doctor"""

from __future__ import annotations

NAME = "doctor"
SUMMARY = "Show versions, devices and kernel backends; useful in bug reports."
EXAMPLES = "Example: seqmlm doctor"


def run() -> None:
    """Show versions, devices and kernel backends of this installation."""
    import os
    import platform
    from importlib.metadata import PackageNotFoundError, version

    import torch

    from seqmlm.data.prepare import cache_folder
    from seqmlm_kernels.dispatch import BACKENDS, why_unavailable

    def installed(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "not installed"

    print(f"python      {platform.python_version()} on {platform.platform()}")
    for package in ("seqmlm", "torch", "triton", "numpy", "safetensors", "matplotlib"):
        print(f"{package:11} {installed(package)}")
    print(f"processors  {os.cpu_count()}, torch uses {torch.get_num_threads()} threads")
    gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
    print(f"GPUs        {', '.join(gpus) or 'none'}")
    for name in BACKENDS:
        print(f"backend     {name}: {why_unavailable(name) or 'available'}")
    print(f"cache       {cache_folder()}")

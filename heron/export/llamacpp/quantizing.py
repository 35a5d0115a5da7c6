"""The quantisations that llama.cpp searches for: made by its own tool, `llama-quantize`, from a file in f32."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from heron.errors import ConfigError, ModelError

TOOL = "llama-quantize"


def find_tool(quantization: str) -> str:
    """Path of the tool; ConfigError if it is not installed."""
    found = shutil.which(TOOL)
    if found is None:
        raise ConfigError(f"The quantisation {quantization} is made by llama.cpp's tool {TOOL}, which is not on the PATH. Install "
                          "llama.cpp (https://github.com/ggml-org/llama.cpp), or choose f32, f16, bf16 or q8_0, which need no tool.")
    return found


def quantize(wide: Path, narrow: Path, quantization: str) -> None:
    """Let the tool write `narrow` from `wide`."""
    command = [find_tool(quantization), str(wide), str(narrow), quantization.upper()]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode or not narrow.is_file():
        told = (done.stderr or done.stdout).strip()[-800:]
        raise ModelError(f"{TOOL} could not write {quantization} (it ended with {done.returncode}):\n{told}\nNothing was exported.")

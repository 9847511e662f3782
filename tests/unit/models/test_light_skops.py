"""A process that reads .skops files does not pay for PyTorch."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.wide

CODE = """
import sys
from scorebeat.models.formats.shared.light_skops import skops_io
assert skops_io().load
assert "torch" not in sys.modules
import torch
import sklearn.externals.array_api_compat.torch
"""


def test_reading_skops_files_does_not_import_pytorch_and_leaves_it_importable() -> None:
    pytest.importorskip("torch", reason="torch is not installed: make install EXTRAS=dev,torch")

    subprocess.run([sys.executable, "-c", CODE], check=True, cwd=Path(__file__).parents[3])

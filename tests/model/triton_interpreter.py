"""The Triton kernels' arithmetic, in Triton's interpreter; `test_fused.py` runs this file with TRITON_INTERPRET=1."""

import os

from fused_arithmetic import FusedArithmetic

from datatrove_quality.model import triton_kernels


assert os.environ.get("TRITON_INTERPRET") == "1", "set it before triton is imported"


class TestTritonKernels(FusedArithmetic):
    kernels = triton_kernels

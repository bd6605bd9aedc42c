"""Policies by name: `fp.precision.bf16`, or `precision="bf16"`.

name        parameters   compute    gradients   loss scale
bf16        float32      bfloat16   float32     none
fp16        float32      float16    float32     dynamic
pure_bf16   bfloat16     bfloat16   bfloat16    none
"""

import torch

from funpipe.functional.precision.policy import Precision

bf16 = Precision(compute=torch.bfloat16)
fp16 = Precision(compute=torch.float16, loss_scale="dynamic")
pure_bf16 = Precision(params=torch.bfloat16, compute=torch.bfloat16, reduce=torch.bfloat16)

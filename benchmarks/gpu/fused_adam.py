"""Compile DeepSpeed's fused Adam and compare five of its steps with AdamW's; prints `RESULT SECONDS DIFFERENCE`."""

import os
import time

import torch

STEPS = 5


def main() -> None:
    """Compile, then step both optimizers with the same gradients."""
    began = time.time()
    # DeepSpeed cannot read names as 9.0a, which an environment may hold.
    os.environ["TORCH_CUDA_ARCH_LIST"] = "{}.{}".format(*torch.cuda.get_device_capability())
    from deepspeed.ops.op_builder import FusedAdamBuilder

    FusedAdamBuilder().load()
    seconds = time.time() - began
    from deepspeed.ops.adam import FusedAdam

    start = torch.randn(1000, device="cuda")
    one, two = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = [kind([p], lr=1e-3, weight_decay=0.1) for kind, p in ((FusedAdam, one), (torch.optim.AdamW, two))]
    for gradient in torch.randn(STEPS, 1000, device="cuda"):
        one.grad, two.grad = gradient.clone(), gradient.clone()
        for optimizer in optimizers:
            optimizer.step()
    print("RESULT", round(seconds, 1), float((one - two).abs().max()))


if __name__ == "__main__":
    main()

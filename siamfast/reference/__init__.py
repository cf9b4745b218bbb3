"""The specification of every op: plain PyTorch that reads like the equation, slow, float64-capable, differentiable."""

"""The interface of the removed torch.distributed._spmd: an imperative training step, traced whole and rewritten."""

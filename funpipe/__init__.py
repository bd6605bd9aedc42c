"""funpipe: one compiled training step per device, from a pure loss function."""

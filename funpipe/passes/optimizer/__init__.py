"""Passes over the optimizer's update: split, merge, move, fuse, write out, and overwrite the state in place."""

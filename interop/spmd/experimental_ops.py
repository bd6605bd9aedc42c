"""Nothing has to be registered: each rank's step is traced with what that rank has, so operators need no rules.

The original had rules here for operators of optimizers and losses; programs import the module for that effect alone.
"""

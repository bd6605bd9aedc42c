"""What is not collected: JAX is an extra, and once imported it makes every later fork of the test process warn."""

collect_ignore_glob = ["*jax*.py"]

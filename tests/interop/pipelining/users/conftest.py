"""The programs of this folder import `model_registry` as they do where they come from: by its bare name."""

import importlib
import sys

sys.modules.setdefault("model_registry", importlib.import_module("tests.interop.pipelining.model_registry"))

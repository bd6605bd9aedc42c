import pytest
import torch

import funpipe as fp
from funpipe.interop.torch_optim import from_torch
from funpipe.interop.torch_optim.errors import TorchOptimError
from funpipe.interop.torch_optim.table import ENTRIES


@pytest.mark.parametrize("kind", ENTRIES, ids=lambda kind: kind.__name__)
def test_every_class_has_its_defaults(kind):
    optimizer = from_torch(kind, lr=0.25)
    assert isinstance(optimizer, fp.optim.Optimizer)
    assert "lr=0.25" in str(optimizer)


def test_all_classes_of_torch_are_known_or_refused():
    kinds = [kind for name, kind in vars(torch.optim).items() if isinstance(kind, type) and name[0].isupper()]
    rest = {kind.__name__ for kind in kinds} - {kind.__name__ for kind in ENTRIES}
    assert rest == {"LBFGS", "SparseAdam", "Optimizer"}


def test_decoupled_adam_is_adamw():
    found = from_torch(torch.optim.Adam, lr=0.1, weight_decay=0.5, decoupled_weight_decay=True)
    assert str(found) == str(fp.optim.adamw(0.1, weight_decay=0.5))


def test_settings_are_renamed():
    found = from_torch(torch.optim.Muon, lr=0.1, ns_steps=3, adjust_lr_fn="match_rms_adamw")
    assert found.settings["steps"] == 3
    assert found.settings["adjust"] == "match_rms_adamw"
    assert from_torch(torch.optim.Muon).settings["adjust"] == "original"


def test_settings_of_speed_do_nothing():
    assert str(from_torch(torch.optim.SGD, lr=0.1, foreach=True)) == str(fp.optim.sgd(0.1))


def test_a_learning_rate_may_be_a_function_or_a_tensor():
    rate = fp.optim.warmup_cosine(1.0, 2, 6)
    assert from_torch(torch.optim.SGD, lr=rate).scalars(torch.tensor(1))["lr"] == 0.5
    assert str(from_torch(torch.optim.SGD, lr=torch.tensor(0.5))) == str(fp.optim.sgd(0.5))


@pytest.mark.parametrize(
    ("kind", "settings", "text"),
    [
        (torch.optim.LBFGS, {}, r"LBFGS cannot become a function.*nearest.*torch\.optim\."),
        (torch.optim.SparseAdam, {}, r"SparseAdam cannot.*The nearest that can is torch\.optim\.Adam"),
        (torch.optim.Adam, {"amsgrad": True}, r"Adam\(amsgrad=True\) has no counterpart.*leave it out"),
        (torch.optim.SGD, {"maximize": True}, r"SGD\(maximize=True\).*return the negative of the loss"),
    ],
)
def test_what_cannot_be_translated_names_the_nearest(kind, settings, text):
    with pytest.raises(TorchOptimError, match=text):
        from_torch(kind, **settings)


def test_an_instance_needs_its_module_alone():
    module = torch.nn.Linear(2, 2)
    with pytest.raises(TorchOptimError, match=r"pass the module and nothing else"):
        from_torch(torch.optim.SGD(module.parameters(), lr=0.1))


def test_torch_checks_the_settings():
    with pytest.raises(ValueError, match="Invalid learning rate"):
        from_torch(torch.optim.SGD, lr=-1.0)

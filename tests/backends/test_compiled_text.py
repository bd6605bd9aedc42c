"""What a compiled step prints, with canned code in the place of what the compiler writes."""

from funpipe import optim
from funpipe.backends.compiled_text import compiled_text, series
from funpipe.backends.emit import emit
from funpipe.passes import optimize
from tests.programs.models import chain, programs_of

ADAMW = optim.adamw(1e-2)


def code(*kernels):
    lines = "".join(f"    {kernel}(args[0])\n" for kernel in kernels)
    return f"def call(args):\n{lines}"


def text_of(num_microbatches):
    programs = optimize(programs_of(chain, 2, num_microbatches, optimizer=ADAMW))
    emitted = emit(programs, 0, ADAMW, 1)
    layer, last = code("extern_kernels.mm", "cpp_fused_tanh_0"), code(*["extern_kernels.mm"] * 3)
    pieces = {"F0": (layer, layer, layer), "B0": (layer, last), "scalars": (), "block0": (code("cpp_fused_adamw_1"),)}
    return compiled_text(programs.programs[0], emitted, pieces), emitted


def test_each_graph_with_its_pieces_and_each_piece_once_with_its_kernels():
    text, emitted = text_of(3)
    head, graphs, pieces, source = text.split("\n\n")
    assert head.startswith("rank 0 stages (0) inputs (bucket.s0_float32")
    assert graphs.splitlines() == [
        "graphs",
        "  F0         once a microbatch: 3 x piece0",
        "  B0         once a microbatch: piece0, piece1",
        "  scalars    once a step: operators, one by one",
        "  block0     once a step for Scale, Update: piece2",
    ]
    assert pieces.splitlines() == [
        "pieces",
        "  piece0     extern_kernels.mm, cpp_fused_tanh_0",
        "  piece1     3 x extern_kernels.mm",
        "  piece2     cpp_fused_adamw_1",
    ]
    assert source == emitted.source


def test_more_microbatches_make_the_source_longer_and_nothing_else():
    assert text_of(2)[0].split("\n\n")[:3] == text_of(16)[0].split("\n\n")[:3]


def test_the_code_of_a_step_that_is_one_function():
    programs = optimize(programs_of(chain, 2, 2, optimizer=ADAMW))
    text = compiled_text(programs.programs[0], emit(programs, 0, ADAMW, 1), {"step": (code("cpp_fused_0"),)})
    assert "\n  step       once a step: piece0\n" in text


def test_a_series_of_nothing_is_nothing():
    assert series([]) == ""

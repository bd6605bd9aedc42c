"""Blocks: used again once all readers have returned them, never before, and more are made when needed."""

import sys

import pytest
import torch

from funpipe.runtime.transports.blocks import LEAST, Blocks, mapped

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory without a name is there on Linux only")


def test_the_smallest_block_that_is_large_enough_is_taken():
    blocks = Blocks()
    sizes = [LEAST, 8 * LEAST, 2 * LEAST]
    made = [blocks.take(size, []) for size in sizes]
    for block in made:
        blocks.done(block.number)
    assert blocks.take(LEAST + 1, []) is made[2]
    assert blocks.take(LEAST + 1, []) is made[1]
    assert blocks.take(LEAST + 1, []) not in made
    assert torch.equal(made[0].raw, torch.zeros(LEAST, dtype=torch.uint8))
    blocks.close()


def test_a_block_is_free_when_its_last_reader_has_returned_it():
    blocks = Blocks()
    block = blocks.take(100, [1])
    blocks.done(block.number)
    assert blocks.take(100, []) is not block
    blocks.done(block.number)
    assert blocks.take(100, []) is block
    blocks.close()


def test_who_maps_a_block_sees_what_is_written_even_when_its_descriptor_is_closed():
    blocks = Blocks()
    block = blocks.take(LEAST, [])
    assert block.descriptor is not None
    other = mapped(block.descriptor, LEAST)
    blocks.close()
    assert block.descriptor is None
    block.raw[5] = 7
    assert other[5] == 7


def test_a_block_without_a_descriptor_serves_only_who_has_it():
    blocks = Blocks()
    block = blocks.take(100, [1, 2])
    block.known |= {1, 2}
    block.close()
    for _ in range(3):
        blocks.done(block.number)
    assert blocks.take(100, [1, 3]) is not block
    assert blocks.take(100, [2]) is block
    blocks.close()

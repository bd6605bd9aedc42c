"""Pieces that are compiled once for batches of every size.

A graph is traced and lowered for each size, which takes no compiler. At first that is done for two sizes; the pieces of
both differ in integers alone, which follow one size of an argument: such a piece is compiled with that size unknown. A
piece of a third size that is the same with its own size put in, to the last integer, runs the same code.
"""

"""Passes over the collectives of a graph, one a file, and the model of time that they share."""

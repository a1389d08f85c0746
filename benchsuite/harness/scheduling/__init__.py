"""Who runs what: the xdist scheduler and the GPU that a worker takes."""

"""How fast the sparse kernels are: ``python -m benchmarks.speed``, then ``python -m benchmarks.speed.table``."""

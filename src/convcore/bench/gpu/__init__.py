"""Measuring on an NVIDIA GPU beside PyTorch: what ``convcore bench --device cuda`` and benchmarks/gpu.py run.

:mod:`.record` runs everything. :mod:`.preflight` says what is missing, :mod:`.making` compiles the kernels to
a folder, :mod:`.worker` measures one of :mod:`.parts` in a process of its own. What a part launches is a
:class:`.schedule.Schedule`, plain data that lies in the folder beside the kernels and needs no Numba.
"""

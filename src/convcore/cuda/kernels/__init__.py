"""The kernels: one file per family, one readable kernel per operation, and the fast ones.

Each kernel's docstring says which thread computes what. They follow the equations of
``csrc/convcore.h``; :mod:`convcore.cuda.step` says which kernel computes which operation. The fast ones
(``implicit_gemm``, ``split``, ``dense_stream``, ``streams``) are made by a function ``make`` for each
combination of options, and :mod:`convcore.cuda.fast` says when.
"""

"""The kernels: one file per family, one readable kernel per operation.

Each kernel's docstring says which thread computes what. They follow the equations of
``csrc/convcore.h``; :mod:`convcore.cuda.step` says which kernel computes which operation.
"""

from Cython.Build import cythonize
from setuptools import Extension, setup

import convcore

extension = Extension("slicescore", ["slicescore.pyx"], include_dirs=[convcore.get_include()])
setup(ext_modules=cythonize(extension))

"""Tries an installed convcore with nothing but its base dependencies: ``python tests/wheel_trial.py``.

Runs outside the source tree, in an environment without pytest and, unless ``--compiler-allowed`` is given,
without a compiler.
"""

from __future__ import annotations

import ctypes
import shutil
import sys
from importlib import metadata
from pathlib import Path

import numpy as np

import convcore as cc
from convcore import _capi


def main() -> None:
    """Fail with an AssertionError or whatever else goes wrong."""
    if "--compiler-allowed" not in sys.argv[1:]:
        assert shutil.which("cc") is None and shutil.which("gcc") is None, "a compiler is within reach"
    assert metadata.version("convcore") == cc.__version__

    ones = np.ones((1, 5, 6, 2), np.float32)
    y = cc.conv2d(ones, np.ones((3, 3, 2, 4), np.float32))
    assert y.shape == (1, 3, 4, 4) and (y == 18).all()

    model = cc.load_model(Path(cc.__path__[0], "data", "sonar.keras"))
    probability = np.asarray(model.predict(np.full((3, 60), 0.25, np.float32)))
    assert probability.shape[0] == 3 and ((probability >= 0) & (probability <= 1)).all()

    for folder in (cc.get_include(), cc.get_library_dir(), cc.get_cmake_dir(), cc.get_pkgconfig_dir()):
        assert Path(folder).is_dir(), folder
    library = ctypes.CDLL(cc.get_library())
    library.cc_set_num_threads(1)
    assert cc.get_num_threads() == 1, "Python and C have different libraries"
    assert "cc_conv2d_f32" in _capi.__pyx_capi__
    print(f"convcore {cc.__version__} works: {', '.join(cc.show_config('dicts')['instruction_sets'])}")


if __name__ == "__main__":
    main()

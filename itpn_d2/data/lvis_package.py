"""What sets of LVIS need beside their files."""

import inspect

import numpy as np

from ..errors import DatasetError


def require_lvis(name: str) -> None:
    """
    Raises:
        DatasetError: the package ``lvis``, which reads and measures the set ``name``, is missing, or uses
            what numpy has no longer (0.5.3 under numpy 1.24 and later, where an evaluation ends with it).
    """
    try:
        import lvis.eval
    except ImportError as error:
        raise DatasetError(f"dataset {name!r}: it needs lvis ({error}): pip install lvis") from error
    if "np.float)" in inspect.getsource(lvis.eval) and not hasattr(np, "float"):
        raise DatasetError(
            f"dataset {name!r}: {lvis.eval.__file__} uses np.float, which numpy {np.__version__} no "
            "longer has, so that the evaluation would fail: replace np.float by float in that file"
        )

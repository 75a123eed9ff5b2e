"""`python -m modiste`, which torchrun starts as `torchrun --nproc-per-node K -m modiste train ...`.

Other processes of Modiste run this file by its path (`launch.py`). Either way Python puts a folder first in which it
looks for modules, the working folder or this one; neither is to stand in for Python's own, so nothing is imported
before it is taken away.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    if not (sys.flags.isolated or getattr(sys.flags, "safe_path", False)):
        del sys.path[0]
    if __spec__ is None:  # run by its path: the package is the one in this folder
        from importlib.util import module_from_spec, spec_from_file_location
        from pathlib import Path

        spec = spec_from_file_location("modiste", Path(__file__).with_name("__init__.py"))
        assert spec and spec.loader
        sys.modules["modiste"] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules["modiste"])

    from modiste.cli import main

    main()

"""`python -m modiste`, which torchrun starts as `torchrun --nproc-per-node K -m modiste train ...`.

Other processes of Modiste run this file by its path (`subprocesses.py`). Either way Python first searches a folder for
modules, the working folder or this one, whose files could hide Python's own; so it is removed before any import.
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

"""`python -m modiste`, which torchrun starts as `torchrun --nproc-per-node K -m modiste train ...`."""

from modiste.cli import main

main()

"""Compute the baselines that ship: of every published set that is at hand, under the default protocol.

    python benchmarks/baselines.py                     # `make baselines`: all sets; five minutes each on two cores
    python benchmarks/baselines.py fashion-mnist

They are the real and trivial baselines of `modiste evaluate RUN` against test images, for 10,000 and 2,000 images and
for trainings on all training images or on those that are not held out, and what these need of real images: moments of
features, and distances to training images. Their keys hold content, protocol and editions, so that after a change of
one of these nothing old is found, and it is time to run this again.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence

from modiste import cache
from modiste.config import Data
from modiste.data.published import PUBLISHED
from modiste.data.sets import Part
from modiste.errors import ModisteError
from modiste.evaluation import baselines, evaluate, records, references
from modiste.experiments.study_config import SHORT_COUNT
from modiste.metrics import features, suite

COUNTS = (10_000, SHORT_COUNT)
SPLITS: tuple[Part, ...] = ("fit", "train")


def compute(name: str, counts: Sequence[int] = COUNTS, splits: Sequence[Part] = SPLITS) -> cache.Recorded:
    """Everything that ships for this set, computed anew."""
    dataset, open_part = Data(name=name, split="train"), references.opener()
    with cache.recorded() as found:
        real = open_part(dataset, "test")
        extractors, _ = evaluate.extractors_for(dataset, real, None, False)
        features.moments(extractors[0], open_part(dataset, "heldout"))
        for split in splits:
            train = open_part(dataset, split)
            for count in counts:
                against = suite.make_reference(real, "test", extractors, train=train, unseen=real, count=count)
                held, new_to_judge = references.baseline_images(dataset, "test", count, open_part)
                baselines.measure(held, new_to_judge, open_part(dataset, "fit"), against, print)
    return found


def main(arguments: Sequence[str] | None = None) -> None:
    """Compute and write the files of the named sets."""
    parser = argparse.ArgumentParser(description="Compute the baselines that ship with the package.")
    parser.add_argument("names", nargs="*", help=f"of {', '.join(PUBLISHED)}; default all that are at hand")
    names = parser.parse_args(arguments).names
    os.environ.setdefault("MODISTE_DATA", str(cache.cache_root()))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MODISTE_CACHE"] = folder
        for name in names or PUBLISHED:
            try:
                found = compute(name)
            except ModisteError as error:
                if names:
                    raise SystemExit(str(error)) from None
                print(f"{name} is left out: {str(error).splitlines()[0]}")
                continue
            for place in cache.write_shipped(name, found, records.versions()):
                print(f"wrote {place.name}: {place.stat().st_size / 1000:,.0f} kB")


if __name__ == "__main__":
    main()

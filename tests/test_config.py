from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from modiste import config
from modiste.config import Recipe
from modiste.errors import UsageError


def test_toml_round_trip_keeps_every_setting() -> None:
    recipe = config.override(Recipe(), {"train.epochs": 2.5, "network.generator_widths": [8, 4], "seed": 3})
    assert config.from_toml(config.to_toml(recipe), "here") == recipe


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train.epoch": 3}, "did you mean 'train.epochs'?"),
        ({"trian.epochs": 3}, "did you mean 'train.epochs'?"),
        ({"epochs": 3}, "did you mean 'train.epochs'?"),
        ({"train.beta1": 2}, "train.beta1 = 2 is not possible: input should be less than 1"),
        ({"loss.adversarial": "hing"}, "'hinge', 'wasserstein' or 'relativistic'"),
        ({"seed": "x"}, "seed = 'x' is not possible"),
        (
            {"train.batch_size": 10, "train.accumulate": 4},
            "--set: train: batch_size 10 is not divisible by accumulate 4",
        ),
        ({"loss.adversarial": "hinge", "loss.label_smoothing": 0.1}, "label_smoothing has no meaning with"),
    ],
)
def test_a_wrong_key_or_value_is_named_with_the_nearest_or_the_range(changes: dict[str, object], words: str) -> None:
    with pytest.raises(UsageError) as refusal:
        config.override(Recipe(), changes)
    assert words in str(refusal.value) and "\n" not in str(refusal.value)


def test_an_unknown_key_in_a_file_names_file_and_nearest_key(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("[train]\nbatchsize = 4\n", encoding="utf-8")
    with pytest.raises(
        UsageError, match=r"mine.toml: no key is named 'train.batchsize'; did you mean 'train.batch_size'"
    ):
        config.load(file)
    file.write_text("[train\n", encoding="utf-8")
    with pytest.raises(UsageError, match="is not valid TOML"):
        config.load(file)
    with pytest.raises(UsageError, match="cannot read the recipe file"):
        config.load(tmp_path / "absent.toml")
    with pytest.raises(UsageError, match="did you mean 'diaz-"):
        config.load("diaz")


def test_a_file_is_named_after_itself(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("seed = 4\n", encoding="utf-8")
    recipe = config.load(tmp_path / "mine.toml")
    assert (recipe.name, recipe.seed) == ("mine", 4)


def test_assignments_are_toml_literals_or_bare_words() -> None:
    texts = [
        "train.epochs=3",
        "data.name = toy",
        "train.compile=true",
        "network.generator_widths=[8, 4]",
        "data.count=",
    ]
    assert config.assignments(texts) == {
        "train.epochs": 3,
        "data.name": "toy",
        "train.compile": True,
        "network.generator_widths": [8, 4],
        "data.count": None,
    }
    with pytest.raises(UsageError, match=r"is not of the form section\.key=value"):
        config.assignments(["train.epochs"])


def test_none_is_a_word_where_a_key_has_it() -> None:
    texts = ["network.conditioning=none", "network.discriminator_norm=none", "data.resize=none"]
    recipe = config.override(config.load("swift"), config.assignments(texts))
    assert (recipe.network.conditioning, recipe.network.discriminator_norm, recipe.data.resize) == (
        "none",
        "none",
        None,
    )


def test_images_and_epochs_are_one_length() -> None:
    by_epochs = config.override(Recipe(), {"train.epochs": 2})
    assert config.resolve(by_epochs, 60_000).train.images == 120_000
    by_images = config.override(by_epochs, {"train.images": 500})
    assert by_images.train.epochs is None and config.resolve(by_images, 60_000).train.images == 500
    with pytest.raises(UsageError, match="not both"):
        config.build({"train": {"images": 5, "epochs": 1}}, "file")


def test_the_hash_covers_settings_and_not_prose() -> None:
    recipe = Recipe()
    assert config.content_hash(recipe) == config.content_hash(recipe.model_copy(update={"about": "other", "name": "x"}))
    for key in ("seed", "train.beta1", "network.z_dim"):
        assert config.content_hash(recipe) != config.content_hash(
            config.override(recipe, {key: 0.25 if "." in key and "beta" in key else 7})
        )
    assert config.differences(recipe, config.override(recipe, {"network.z_dim": 7})) == (
        config.Change("network.z_dim", 100, 7),
    )


def test_compiled_networks_are_not_clipped_by_class() -> None:
    changes = {"network.conditioning": "projection", "loss.group_clip": 1.0, "train.compile": True}
    with pytest.raises(UsageError, match=r"set train\.compile = false"):
        config.override(Recipe(), changes)


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("5min", 300), ("1.5h", 5400), ("30", 30), ("2 m", 120)])
def test_lengths_of_time(text: str, seconds: float) -> None:
    assert config.parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "5 parsecs", "-3s", "0"])
def test_no_lengths_of_time(text: str) -> None:
    with pytest.raises(UsageError, match="write it as 90s, 5min or 1h"):
        config.parse_seconds(text)


def test_every_key_is_documented() -> None:
    rows = config.describe_keys()
    assert len(rows) == len(config.KEYS) and all(row["meaning"] for row in rows)


def test_networks_need_a_width() -> None:
    with pytest.raises(UsageError, match=r"network.generator_widths = \[\] is not possible: .*at least 1"):
        config.override(Recipe(), {"network.generator_widths": []})


def test_keys_that_came_later_leave_old_recipes_and_their_hashes_as_they_were() -> None:
    """The hash and the pixels of a run from before data.fit and data.background are those of then."""
    whole = config.to_toml(config.override(config.Recipe(), {"data.name": "photos", "data.resize": 32}))
    later = ("fit", "background", "heldout", "group_by", "classes", "patience", "smooth", "noise_gains",
             "without_judge")  # fmt: skip
    old = "".join(line for line in whole.splitlines(True) if not line.startswith(later))
    recipe = config.from_toml(old, "recipe.toml")
    assert recipe.data.fit == "stretch" and config.from_toml(whole, "recipe.toml").data.fit == "crop"
    tree = recipe.model_dump(mode="json", exclude={"name", "about", "source"})
    assert [tree["data"].pop(key) for key in later[:-4]] == ["stretch", "black", "last", None, []]
    assert tree["evaluate"].pop("patience") == 0 and tree["network"].pop("smooth") is False
    assert tree["network"].pop("noise_gains") is False
    assert tree["evaluate"].pop("without_judge") == "random"
    assert tree.pop("finetune")["ancestor"] is None
    before = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()
    assert config.content_hash(recipe) == before
    hashes = {
        config.content_hash(config.override(recipe, changes))
        for changes in (
            {},
            {"data.fit": "crop"},
            {"data.fit": "pad"},
            {"data.background": "white"},
            {"evaluate.patience": 3},
        )
    }
    assert len(hashes) == 5
    plain = config.override(recipe, {"data.resize": None})
    assert config.content_hash(plain) == config.content_hash(config.override(plain, {"data.fit": "pad"}))


def test_a_background_is_black_white_or_a_colour() -> None:
    assert config.override(config.Recipe(), {"data.background": "#FF8000"}).data.background == "#ff8000"
    with pytest.raises(UsageError, match=r"data.background = 'red' is not possible: write black, white or #rrggbb"):
        config.override(config.Recipe(), {"data.background": "red"})


@pytest.mark.parametrize(
    ("policy", "reason"),
    [
        ("flip", "write auto, or a list of color, flip, translation and cutout"),
        (3, "write auto, or a list"),
        (["flap"], "'color', 'flip', 'translation' or 'cutout'"),
    ],
)
def test_a_policy_is_auto_or_a_list(policy: object, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        config.override(config.Recipe(), {"augment.policy": policy})
    for good in ("auto", ("flip", "color")):
        recipe = config.override(config.Recipe(), {"augment.policy": good})
        assert config.from_toml(config.to_toml(recipe), "recipe.toml").augment.policy == good

"""Recipes: frozen, validated settings of a training.

A recipe is a short TOML file. `load` reads one (shipped or the user's), `override` changes single keys, `resolve`
fills in what depends on the data, and `to_toml` writes the result into the run folder, from where it repeats the run.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tomli_w
from pydantic import AfterValidator, BeforeValidator, Field, model_validator
from pydantic.types import StringConstraints

from modiste import parts, schema
from modiste.errors import UsageError
from modiste.schema import Section

Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Widths = Annotated[tuple[Count, ...], Field(min_length=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
OwnPart = Annotated[str, StringConstraints(pattern=parts.PATTERN)]


def _colour(text: str) -> str:
    if not re.fullmatch(r"black|white|#[0-9a-f]{6}", text.lower()):
        raise ValueError("write black, white or #rrggbb")
    return text.lower()


def _policy(value: Any) -> Any:
    if value != "auto" and not isinstance(value, (list, tuple)):
        raise ValueError("write auto, or a list of color, flip, translation and cutout")
    return value


Transformation = Literal["color", "flip", "translation", "cutout"]
Policy = Annotated[tuple[Transformation, ...] | Literal["auto"], BeforeValidator(_policy)]


class Data(Section):
    """Which images the run sees."""

    name: str = "fashion-mnist"
    """fashion-mnist, mnist, kmnist, toy, a folder (of pictures, IDX, .npy or Parquet files), a .npz, .npy or
    .parquet file."""
    split: Literal["train", "fit"] = "train"
    """train: all training images; fit: without the tenth (of Fashion-MNIST 5,000) held out for choosing checkpoints."""
    classes: tuple[int | str, ...] = ()
    """Use only the images of these classes, by name or by label (from 0), in training, held-out and test images; they
    are numbered anew, in the set's order. None = all."""
    count: Count | None = None
    """Use only so many images from the start; none = all."""
    resize: Annotated[int, Field(ge=4, le=512)] | None = None
    """Side in pixels to which every image is resized (antialiased); none = unchanged."""
    resize_filter: Literal["box", "bilinear", "bicubic", "lanczos"] = "lanczos"
    """Pillow's antialiased resampling filter, used only with resize."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How images become square, used only with resize: cropped to the middle, padded with background, or stretched."""
    background: Annotated[str, AfterValidator(_colour)] = "black"
    """Colour behind transparent pixels and of the padding: black, white or #rrggbb."""
    group_by: str | None = None
    """Groups of images to hold out together: the text at which the common part of file names ends (`_` for
    `patient7_03.png`), or the name of a Parquet column or an .npz array."""
    heldout: Literal["drawn", "last"] = "drawn"
    """How images are held out where no split is published: drawn by content, or the last in order (older runs)."""


class Network(Section):
    """A generator and its discriminator. Image size, channels and classes come from the data."""

    family: Literal["dcgan", "conditional-dcgan", "dense-dcgan", "slim", "residual", "norm-free"] | OwnPart = "dcgan"
    """The architecture of both networks, one file each in modiste/networks; or your own, as my_nets.py:Pair
    (docs/own-parts.md)."""
    z_dim: Count = 100
    """Length of the noise vector."""
    generator_widths: Widths = (256, 128, 64)
    """Channels of the generator's feature maps, from the noise to the image."""
    discriminator_widths: Widths = (64, 128, 256)
    """Channels of the discriminator's feature maps, from the image to the logit."""
    conditioning: Literal["none", "one-hot", "projection", "auxiliary"] = "none"
    """How labels enter. one-hot: beside the inputs; projection: a projection discriminator, and conditional batch norm
    in the generator (slim and norm-free families: one-hot beside the noise); auxiliary: beside the noise, and as the
    target of a classifier in the discriminator."""
    class_noise: bool = False
    """Multiply the noise by a matrix per class, at first the identity (slim family); no effect without labels."""
    class_gains: bool = False
    """Gains and biases per class in the generator's last batch norm (slim family); no effect without labels."""
    noise_gains: bool = False
    """Gains and biases linear in noise and class in all of the generator's batch norms, instead (slim family)."""
    smooth: bool = False
    """Double the sides of the generator's maps by bilinear resampling, which leaves no chequerboard, instead of learned
    kernels (slim family)."""
    generator_norm: Literal["batch", "none"] = "batch"
    """Normalisation in the generator; conditional with conditioning = "projection", except in the slim family."""
    generator_spectral: bool = False
    """Spectral norm on the generator's weights, in addition to its normalisation (SAGAN, BigGAN)."""
    discriminator_norm: Literal["batch", "spectral", "none"] = "batch"
    """Normalisation in the discriminator."""
    generator_slope: Fraction = 0.0
    """Slope of the generator's ReLU for negative inputs; 0 = plain ReLU."""
    leaky_slope: Fraction = 0.2
    """Slope of the discriminator's leaky ReLU for negative inputs."""
    dropout: Fraction = 0.0
    """Share of the discriminator's activations that dropout sets to zero."""
    attention: Annotated[tuple[Count, ...], Field(max_length=4)] = ()
    """Sides in pixels of the feature maps that self-attention follows (residual family)."""
    output: Literal["tanh", "sigmoid"] = "tanh"
    """The generator's last activation; both are scaled to the same pixel range."""
    init: Literal["torch", "normal", "glorot", "orthogonal"] = "torch"
    """Initial weights: torch's default, normal with deviation 0.02 (DCGAN), Glorot uniform (Keras), orthogonal."""


class Loss(Section):
    """The losses of both networks; all on logits."""

    adversarial: (
        Literal["nonsaturating", "minimax", "least-squares", "hinge", "wasserstein", "relativistic"] | OwnPart
    ) = "nonsaturating"
    """The adversarial loss; modiste/training/losses.py has equations and papers. Or your own, as my_losses.py:hinged
    (docs/own-parts.md)."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """One-sided: the discriminator's target for real images is 1 minus this (cross-entropy losses only)."""
    r1_gamma: NonNegative = 0.0
    """Weight of the R1 gradient penalty at real images; 0 = off."""
    r2_gamma: NonNegative = 0.0
    """Weight of the R2 gradient penalty at generated images; 0 = off."""
    gradient_penalty_weight: NonNegative = 0.0
    """Weight of WGAN-GP's penalty on lines between real and generated images (10 as published, for a discriminator
    without batch norm, since the penalty is per image); 0 = off."""
    dragan_weight: NonNegative = 0.0
    """Weight of DRAGAN's gradient penalty around real images (10 as published); 0 = off."""
    penalty_every: Count = 1
    """Apply gradient penalties at every n-th discriminator update, with n times the weight."""
    consistency_weight: NonNegative = 0.0
    """Weight of CT-GAN's term: two passes with dropout should agree on a real image (2 in the paper, whose equation is
    used; the authors' code squares the difference); 0 = off."""
    balanced_consistency_weight: NonNegative = 0.0
    """Weight of bCR: logits should not change with augment.policy (10 as published); the adversarial loss then sees
    images without augmentation; 0 = off."""
    weight_clip: NonNegative = 0.0
    """Clamp the discriminator's weights to [-this, this] after each update (0.01 in the first WGAN); 0 = off."""
    group_clip: NonNegative = 0.0
    """Largest norm of the discriminator's gradient from one class, before the classes are averaged, so that no class
    dominates (RepFair-GAN); 0 = off."""
    top_k_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of its images that the generator learns from: those that the discriminator rates highest."""
    top_k_images: Annotated[int, Field(ge=0)] = 0
    """The share falls linearly from 1 over so many images shown; 0 = at once."""
    class_weight: NonNegative = 1.0
    """Weight of the auxiliary classifier's term, for network.conditioning = "auxiliary"."""

    @property
    def gradient_penalties(self) -> dict[str, float]:
        """The weights of the gradient penalties that are on, by key."""
        keys = ("r1_gamma", "r2_gamma", "gradient_penalty_weight", "dragan_weight")
        return {key: getattr(self, key) for key in keys if getattr(self, key)}

    @model_validator(mode="after")
    def _smoothing_needs_targets(self) -> Loss:
        if self.label_smoothing and self.adversarial not in ("nonsaturating", "minimax"):
            raise ValueError(f"label_smoothing has no meaning with adversarial = {self.adversarial!r}; set it to 0")
        return self


class Augment(Section):
    """Augmentation of real and generated images before the discriminator sees them."""

    policy: Policy = ()
    """Transformations in their order (modiste/training/diffaugment.py); none = no augmentation. auto: none at first,
    then translation and (of colours) color of up to 0.3 of the images while the discriminator over-fits, judged by
    held-out images (data.split = "fit" and evaluate.every_images > 0)."""
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the images that each transformation changes; the initial share if it adapts (of auto always 0)."""
    adapt_target: Fraction = 0.0
    """The share rises while r = 2 a - 1 is above this (0.6 as published) and falls while it is below, where a is the
    discriminator's accuracy on real images (d_accuracy_real in the log); 0 = fixed."""
    adapt_images: Count = 500_000
    """Images shown while an adapting share can go from 0 to 1."""


class Train(Section):
    """Length, optimisation and hardware. Lengths and schedules are counted in real images shown."""

    images: Count | None = None
    """Length of the training in real images shown: epochs times the size of the data set."""
    epochs: Positive | None = None
    """Length of the training in passes over the data set; converted to images when the run starts."""
    budget_seconds: Positive | None = None
    """Stop after so much training time if that comes first; the training up to then is the same."""
    batch_size: Count = 128
    """Real images in one discriminator update, over all processes."""
    tick_images: Count = 20_000
    """Log, draw a grid and save the state once per so many images."""
    discriminator_steps: Count = 1
    """Discriminator updates per generator update."""
    accumulate: Count = 1
    """Split each batch into so many parts and add their gradients: less memory and the same update, except for what is
    computed per part: batch norm, DRAGAN's noise and loss.group_clip."""
    lr_generator: Positive = 2e-4
    """The generator's learning rate."""
    lr_discriminator: Positive = 2e-4
    """The discriminator's learning rate."""
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How both learning rates fall to zero over train.images; the generator, updated last, is a batch ahead."""
    lr_warmup_images: Annotated[int, Field(ge=0)] = 0
    """Both learning rates rise linearly over so many images at the start."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """The optimiser of both networks."""
    beta1: Fraction = 0.5
    """Adam's first-moment decay; RMSprop has none."""
    beta2: Fraction = 0.999
    """Adam's second-moment decay; RMSprop's smoothing constant."""
    epsilon: Positive = 1e-8
    """The optimiser's denominator offset."""
    ema_halflife_images: NonNegative = 0.0
    """Half-life of the moving average of the generator's weights, in images; 0 = no average."""
    ema_ramp: NonNegative = 0.1
    """The half-life is at most this share of the images shown so far; 0 = no ramp."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on GPUs and CPUs with bfloat16 instructions, else float32."""
    channels_last: bool = True
    """Store feature maps as NHWC, which the convolution kernels prefer."""
    compile: bool = False
    """Compile the networks with torch.compile (worth it for long GPU runs; needs a compiler)."""
    cuda_graph: bool = True
    """On one GPU, replay each step as a CUDA graph where all steps run the same kernels."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: cuda, else mps, else cpu."""
    threads: Annotated[int, Field(ge=0)] = 0
    """CPU threads of all processes together; 0 = torch's default. The manifest has the number per process, since sums
    depend on it."""
    processes: Count = 1
    """CPU processes that share each batch and the threads; faster than as many threads. Batch norm, dropout,
    augmentation and what train.accumulate names are computed per process. Start several GPUs with torchrun instead."""

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if self.images is not None and self.epochs is not None:
            raise ValueError("give train.images or train.epochs, not both; they are the same thing")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not divisible by accumulate {self.accumulate}")
        return self


class Finetune(Section):
    """A start from the weights of another run (`modiste train --from`); without an ancestor the rest has no effect."""

    ancestor: str | None = None
    """A run folder, or pretrained, whose weights a training starts from; none = fresh weights."""
    frozen_layers: Annotated[int, Field(ge=0)] = 1
    """So many first layers of the ancestor's discriminator keep their weights (FreezeD, Mo et al. 2020)."""
    rate_share: Positive = 1.0
    """Both learning rates are this share of train.lr_generator and train.lr_discriminator."""


class Evaluate(Section):
    """How generators are scored on held-out images during training, to keep the best one beside the last."""

    every_images: Annotated[int, Field(ge=0)] = 60_000
    """Score the generator at the first tick after so many further images, and at the last tick; 0 = never."""
    count: Annotated[int, Field(ge=2)] = 2_000
    """Generated images for that score."""
    without_judge: Literal["random", "patches"] = "random"
    """Features where no judge was trained: a random network's, or learned patches, which notice blur and noise."""
    patience: Annotated[int, Field(ge=0)] = 0
    """Stop after so many scores in a row that are no better than the best one; 0 = never."""


class Recipe(Section):
    """All settings of a training, and their source."""

    name: Name = "unnamed"
    """Short name; also the default run folder."""
    about: str = ""
    """One sentence about this recipe."""
    source: str = ""
    """The publication or idea it follows."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Seed of initial weights, noise and data order."""
    data: Data = Data()
    network: Network = Network()
    loss: Loss = Loss()
    augment: Augment = Augment()
    train: Train = Train()
    finetune: Finetune = Finetune()
    evaluate: Evaluate = Evaluate()

    @model_validator(mode="after")
    def _terms_have_what_they_need(self) -> Recipe:
        loss = self.loss
        if loss.balanced_consistency_weight and not self.augment.policy:
            raise ValueError("loss.balanced_consistency_weight needs transformations; give augment.policy some")
        if loss.balanced_consistency_weight and not (self.augment.probability or self.augment.adapt_target):
            raise ValueError("loss.balanced_consistency_weight compares changed images; raise augment.probability")
        if self.augment.adapt_target and not self.augment.policy:
            raise ValueError("augment.adapt_target has nothing to adapt; give augment.policy something, or set it to 0")
        if self.augment.policy == "auto" and (loss.balanced_consistency_weight or self.augment.adapt_target):
            raise ValueError("augment.policy = 'auto' goes with neither loss.balanced_consistency_weight nor "
                             "augment.adapt_target; set these to 0, or give it transformations")  # fmt: skip
        if self.evaluate.patience and not self.evaluate.every_images:
            raise ValueError("evaluate.patience counts scores; evaluate.every_images = 0 makes none; change one")
        if loss.weight_clip and self.network.discriminator_norm == "spectral":
            raise ValueError(
                "loss.weight_clip bounds weights whose scale spectral norm takes out again; set one of the two to none"
            )
        if loss.consistency_weight and not self.network.dropout:
            raise ValueError("loss.consistency_weight compares passes that differ by dropout; set network.dropout")
        if loss.group_clip and self.network.conditioning == "none":
            raise ValueError("loss.group_clip needs classes; set network.conditioning or loss.group_clip = 0")
        if loss.group_clip and self.train.compile:
            raise ValueError(
                "loss.group_clip goes back through a network several times, and a compiled one can only be "
                "gone through once; set train.compile = false"
            )
        return self


def load(name_or_path: str | Path) -> Recipe:
    """The shipped recipe of that name, or the recipe in that TOML file."""
    text, place = schema.read_toml(name_or_path)
    tree = schema.parse_toml(text, place)
    tree.setdefault("name", Path(place).stem)
    recipe = build(with_older_defaults(tree), place)
    return with_own_parts(recipe, lambda text: parts.beside(text, Path(place).parent))


def build(tree: Mapping[str, Any], place: str) -> Recipe:
    """A recipe from nested plain values; errors name `place`."""
    return schema.validate(Recipe, tree, place, keys=KEYS, listing=LISTING)


def override(recipe: Recipe, changes: Mapping[str, Any], place: str = "--set") -> Recipe:
    """The recipe with values replaced by dotted key, as {"train.epochs": 3}."""
    tree = recipe.model_dump(exclude_unset=True)
    for key, value in changes.items():
        section, _, leaf = key.rpartition(".")
        if key not in KEYS:
            raise UsageError(f"{place}: {schema.unknown_key(key, KEYS, LISTING)}")
        target = tree.setdefault(section, {}) if section else tree
        if value is None and section and "none" in get_args(SECTIONS[section].model_fields[leaf].annotation):
            value = "none"  # one of the key's values
        target[leaf] = value
        if key in ONE_LENGTH and value is not None:  # two units of the length: the last one counts
            target.pop(ONE_LENGTH[key], None)
    return build(tree, place)


def own_parts(recipe: Recipe) -> list[str]:
    """The recipe's references to code of the user's own (see `parts`)."""
    return [text for text in (recipe.loss.adversarial, recipe.network.family) if parts.parse(text)]


def with_own_parts(recipe: Recipe, change: Callable[[str], str]) -> Recipe:
    """The recipe with every such reference changed, as by `parts.pin`; the recipe itself where it has none."""
    found = {"loss.adversarial": recipe.loss.adversarial, "network.family": recipe.network.family}
    changes = changed_parts(found, change)
    return override(recipe, changes) if changes != found else recipe


def changed_parts(changes: Mapping[str, Any], change: Callable[[str], str]) -> dict[str, Any]:
    """Changes of a recipe by dotted key, values or lists of values, with every such reference changed."""

    def of(value: Any) -> Any:
        if isinstance(value, (list, tuple)):
            return type(value)(map(of, value))
        return change(value) if parts.parse(value) else value

    return {key: of(value) if key in PART_KEYS else value for key, value in changes.items()}


def assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Dotted keys and values from `section.key=value` texts; values are TOML literals or bare words."""
    changes = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise UsageError(f"--set {text!r} is not of the form section.key=value, as in train.epochs=3")
        changes[key] = schema.parse_value(value)
    return changes


def parse_seconds(text: str) -> float:
    """Seconds from text like 90s, 5min, 1.5h or a plain number of seconds."""
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([a-z]*)", text.strip().lower())
    units = {"": 1, "s": 1, "sec": 1, "m": 60, "min": 60, "h": 3600}
    if not match or match[2] not in units or float(match[1]) <= 0:
        raise UsageError(f"{text!r} is not a length of time; write it as 90s, 5min or 1h")
    return float(match[1]) * units[match[2]]


def describe_keys() -> list[dict[str, Any]]:
    """Every key of a recipe with its default and meaning, in the order of the sections."""
    tops = [(key, Recipe.model_fields[key]) for key in TOP_KEYS]
    inner = [(f"{name}.{key}", field) for name, part in SECTIONS.items() for key, field in part.model_fields.items()]
    return [{"key": key, "default": field.default, "meaning": field.description} for key, field in tops + inner]


def resolve(recipe: Recipe, dataset_size: int) -> Recipe:
    """The recipe with its length in images, the unit of a running training."""
    train = recipe.train
    images = train.images or max(1, round((train.epochs or 1.0) * dataset_size))
    train = train.model_copy(update={"images": images, "epochs": None})
    return recipe.model_copy(update={"train": train})


def to_toml(recipe: Recipe) -> str:
    """All settings of the recipe as TOML text; keys that are none are left out."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def from_toml(text: str, place: str) -> Recipe:
    """The inverse of `to_toml`, also for text of older versions."""
    return build(with_older_defaults(schema.parse_toml(text, place)), place)


def with_older_defaults(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree of a recipe; in one written by `to_toml`, keys that came later get the values that were used before."""
    data: Any = tree.get("data")
    is_complete = isinstance(data, dict) and {"name", "split", "resize_filter"} <= data.keys()
    return {**tree, "data": with_older_data_defaults(data)} if is_complete else tree


def with_older_data_defaults(data: dict[str, Any]) -> dict[str, Any]:
    """A recipe's section data, in which a missing fit is stretch and a missing heldout is last."""
    return {"heldout": "last", **({"fit": "stretch"} if data.get("resize") else {}), **data}


def content_hash(recipe: Recipe) -> str:
    """SHA-256 of all settings but name, about and source, as 64 hexadecimal digits.

    Keys that came later are left out where they have the value that was used before, so that older hashes still hold.
    """
    unused = set() if recipe.finetune.ancestor else {"finetune"}
    tree = recipe.model_dump(mode="json", exclude={"name", "about", "source"} | unused)
    if recipe.data.resize is None or recipe.data.fit == "stretch":
        del tree["data"]["fit"]
    for section, leaf, before in LATER_KEYS:
        if tree[section][leaf] == before:
            del tree[section][leaf]
    del tree["data"]["heldout"]  # follows the run, see `differences`
    return hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class Change:
    """A setting that differs between two recipes: dotted key and both values."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.key}: {self.before} -> {self.after}"


def differences(old: Recipe, new: Recipe) -> tuple[Change, ...]:
    """The settings that differ, but for data.heldout (see `with_heldout_of`)."""
    before, after = _flat(old), _flat(with_heldout_of(new, old))
    return tuple(Change(key, before[key], after[key]) for key in before if before[key] != after[key])


def with_heldout_of(recipe: Recipe, started: Recipe) -> Recipe:
    """The recipe with data.heldout of the recipe that a run was started with."""
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"heldout": started.data.heldout})})


def _flat(recipe: Recipe) -> dict[str, Any]:
    tree = recipe.model_dump(mode="json", exclude={"name", "about", "source"})
    flat = {key: value for key, value in tree.items() if not isinstance(value, dict)}
    return flat | {f"{section}.{key}": value for section in SECTIONS for key, value in tree[section].items()}


SECTIONS: dict[str, type[Section]] = {
    "data": Data, "network": Network, "loss": Loss, "augment": Augment, "train": Train, "finetune": Finetune,
    "evaluate": Evaluate,
}  # fmt: skip
TOP_KEYS = [key for key in Recipe.model_fields if key not in SECTIONS]
LISTING = "`modiste recipes keys` lists them all"
PART_KEYS = ("loss.adversarial", "network.family")
"""The keys whose value may name code of the user's own."""
KEYS_OF_0_3: tuple[tuple[str, str, Any], ...] = (
    ("data", "classes", []), ("network", "smooth", False), ("network", "noise_gains", False),
    ("evaluate", "without_judge", "random"), ("evaluate", "patience", 0),
)  # fmt: skip
LATER_KEYS = (("data", "background", "black"), ("data", "group_by", None), *KEYS_OF_0_3)
"""Keys that older recipes lack, with the values that were used before."""
ONE_LENGTH = {"train.images": "epochs", "train.epochs": "images"}
KEYS = TOP_KEYS + [f"{name}.{key}" for name, section in SECTIONS.items() for key in section.model_fields]

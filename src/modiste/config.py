"""Recipes: frozen, validated settings that say everything a run needs.

A recipe is a short TOML file. `load` reads one (shipped or the user's), `override` changes single keys, `resolve`
settles what depends on the data, and `to_toml` writes the result beside the weights, so that it repeats the run.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tomli_w
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.types import StringConstraints

from modiste.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Count = Annotated[int, Field(ge=1)]
NonNegative = Annotated[float, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]
Widths = Annotated[tuple[Count, ...], Field(min_length=1)]
Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


def _colour(text: str) -> str:
    if not re.fullmatch(r"black|white|#[0-9a-f]{6}", text.lower()):
        raise ValueError("write black, white or #rrggbb")
    return text.lower()


class Section(BaseModel):
    """A frozen part of a recipe in which a key that does not exist is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False, use_attribute_docstrings=True)


class Data(Section):
    """Which images the run sees."""

    name: str = "fashion-mnist"
    """fashion-mnist, mnist, kmnist, toy, a folder (IDX files or images), an .npz or .parquet file."""
    split: Literal["train", "fit"] = "train"
    """train: all training images; fit: without the tenth (of Fashion-MNIST 5,000) held out for choosing checkpoints."""
    count: Count | None = None
    """Use only the first so many images; none = all of them."""
    resize: Annotated[int, Field(ge=4, le=512)] | None = None
    """Side length in pixels to which every image is resized (antialiased); none = as they are."""
    resize_filter: Literal["box", "bilinear", "bicubic", "lanczos"] = "lanczos"
    """Pillow's antialiased resampling filter, used only with resize."""
    fit: Literal["crop", "pad", "stretch"] = "crop"
    """How images that are not square become so, used only with resize: cut to the middle square, padded with the
    background, or stretched."""
    background: Annotated[str, AfterValidator(_colour)] = "black"
    """What transparent parts of pictures are laid over, and what pads: black, white or #rrggbb."""
    group_by: str | None = None
    """Groups of images to hold out together: the text up to which file names are alike (`_` of `patient7_03.png`), or
    the name of a Parquet file's column or an .npz file's array."""
    heldout: Literal["drawn", "last"] = "drawn"
    """How images are held out where no way is published: drawn by content, or the last in order, as runs once did."""


class Network(Section):
    """A generator and its discriminator. Image size, channels and classes come from the data."""

    family: Literal["dcgan", "conditional-dcgan", "dense-dcgan", "slim", "residual", "norm-free"] = "dcgan"
    """The pair of architectures; one file each in modiste/networks."""
    z_dim: Count = 100
    """Length of the noise vector."""
    generator_widths: Widths = (256, 128, 64)
    """Channels of the generator's feature maps, from the noise to the image."""
    discriminator_widths: Widths = (64, 128, 256)
    """Channels of the discriminator's feature maps, from the image to the logit."""
    conditioning: Literal["none", "one-hot", "projection", "auxiliary"] = "none"
    """How labels enter: one-hot beside the inputs; a projection discriminator and conditional batch norm in the
    generator (slim and norm-free families: one-hot beside the noise); or beside the noise and as the answer of an
    auxiliary classifier in the discriminator."""
    class_noise: bool = False
    """The noise goes through a matrix of its class first, which starts as the identity (slim family); without labels
    it goes straight on."""
    class_gains: bool = False
    """The generator's last batch norm has gains and biases per class (slim family); without labels the same for all."""
    generator_norm: Literal["batch", "none"] = "batch"
    """Normalisation in the generator (where conditioning is projection conditional, but in the slim family)."""
    generator_spectral: bool = False
    """Spectral norm on the generator's weights too, besides its normalisation (SAGAN, BigGAN)."""
    discriminator_norm: Literal["batch", "spectral", "none"] = "batch"
    """Normalisation in the discriminator."""
    generator_slope: Fraction = 0.0
    """Slope of the generator's ReLU for negative inputs; 0 = plain ReLU."""
    leaky_slope: Fraction = 0.2
    """Slope of the discriminator's leaky ReLU for negative inputs."""
    dropout: Fraction = 0.0
    """Share of the discriminator's activations that are dropped."""
    attention: Annotated[tuple[Count, ...], Field(max_length=4)] = ()
    """Sides in pixels of the feature maps after which self-attention is placed (residual family)."""
    output: Literal["tanh", "sigmoid"] = "tanh"
    """The generator's last activation; both are mapped to the same pixels."""
    init: Literal["torch", "normal", "glorot", "orthogonal"] = "torch"
    """Initial weights: torch's default, normal with deviation 0.02 (DCGAN), Glorot uniform (Keras), orthogonal."""


class Loss(Section):
    """What the two networks play for; all on logits."""

    adversarial: Literal["nonsaturating", "minimax", "least-squares", "hinge", "wasserstein", "relativistic"] = (
        "nonsaturating"
    )
    """The game; see modiste/losses.py for equations and papers."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """One-sided: the discriminator's target for real images is 1 minus this (cross-entropy games only)."""
    r1_gamma: NonNegative = 0.0
    """Weight of the R1 gradient penalty at real images; 0 = off."""
    r2_gamma: NonNegative = 0.0
    """Weight of the R2 gradient penalty at generated images; 0 = off."""
    gradient_penalty_weight: NonNegative = 0.0
    """Weight of WGAN-GP's penalty on lines between real and generated images (10 as published, with a discriminator
    without batch norm, which mixes the images that the penalty takes one by one); 0 = off."""
    dragan_weight: NonNegative = 0.0
    """Weight of DRAGAN's gradient penalty around real images (10 as published); 0 = off."""
    penalty_every: Count = 1
    """Apply gradient penalties on every so-many-th discriminator step, scaled up to keep their mean weight."""
    consistency_weight: NonNegative = 0.0
    """Weight of CT-GAN's term: two passes with dropout should agree on a real image (2 in the paper, whose equation
    this is; its authors' code squares the difference); 0 = off."""
    balanced_consistency_weight: NonNegative = 0.0
    """Weight of bCR: logits should not change with augment.policy (10 as published); the game itself then goes
    without augmentation; 0 = off."""
    weight_clip: NonNegative = 0.0
    """Bring the discriminator's weights into [-this, this] after each step (0.01 in the first WGAN); 0 = off."""
    group_clip: NonNegative = 0.0
    """Largest norm of the discriminator's gradient from the images of one class, before the classes are averaged, so
    that none of them is drowned out (RepFair-GAN); 0 = off."""
    top_k_share: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The generator learns from this share of its images only, those that the discriminator rates highest."""
    top_k_images: Annotated[int, Field(ge=0)] = 0
    """That share is reached in proportion to the first so many images shown; 0 = at once."""
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
    """What is done to real and generated images before the discriminator sees them."""

    policy: tuple[Literal["color", "flip", "translation", "cutout"], ...] = ()
    """Transformations in their order (modiste/diffaug.py); none = the images as they are."""
    probability: Annotated[float, Field(ge=0, le=1)] = 1.0
    """Share of the images that each transformation changes; where it adapts, the share at the start."""
    adapt_target: Fraction = 0.0
    """The share rises while r = 2 a - 1 is above this (0.6 as published), where a is the discriminator's accuracy on
    real images (d_accuracy_real in the log), and falls while it is below; 0 = fixed."""
    adapt_images: Count = 500_000
    """Images in which an adapting share can go from 0 to 1."""


class Train(Section):
    """How long, how fast and on what. Lengths and schedules are counted in images shown to the discriminator."""

    images: Count | None = None
    """Length of the training in real images shown; the same thing as epochs times the set's size."""
    epochs: Positive | None = None
    """Length of the training in passes over the set; resolved to images when the run starts."""
    budget_seconds: Positive | None = None
    """Stop after so much training time if that comes first; the path up to there is the same."""
    batch_size: Count = 128
    """Real images in one discriminator update, over all processes."""
    tick_images: Count = 20_000
    """Log, draw the grid and save the state once per so many images."""
    discriminator_steps: Count = 1
    """Discriminator updates per generator update."""
    accumulate: Count = 1
    """Split each batch into so many parts and add their gradients: less memory, same update but for what sees a
    part for the whole, batch norm, DRAGAN's noise and loss.group_clip."""
    lr_generator: Positive = 2e-4
    """The optimiser's learning rate for the generator."""
    lr_discriminator: Positive = 2e-4
    """The optimiser's learning rate for the discriminator."""
    lr_schedule: Literal["constant", "linear", "cosine"] = "constant"
    """How both learning rates fall to zero over train.images; the generator's, updated last, is a batch ahead."""
    lr_warmup_images: Annotated[int, Field(ge=0)] = 0
    """Both learning rates rise linearly over the first so many images."""
    optimizer: Literal["adam", "rmsprop"] = "adam"
    """The optimiser of both networks."""
    beta1: Fraction = 0.5
    """Adam's first-moment decay; RMSprop has none."""
    beta2: Fraction = 0.999
    """Adam's second-moment decay; RMSprop's smoothing constant."""
    epsilon: Positive = 1e-8
    """The optimiser's denominator offset."""
    ema_halflife_images: NonNegative = 0.0
    """Half-life of the generator's moving average in images; 0 = the raw generator is the result."""
    ema_ramp: NonNegative = 0.1
    """The half-life is at most this share of the images shown so far; 0 = no ramp."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """auto: bfloat16 autocast on GPUs and on processors with bfloat16 instructions, else float32."""
    channels_last: bool = True
    """Store feature maps as NHWC, which the convolution kernels prefer."""
    compile: bool = False
    """Compile the networks with torch.compile (pays on long GPU runs; needs a compiler)."""
    cuda_graph: bool = True
    """On one GPU, start a step's kernels all at once, where all steps run the same ones (modiste/cuda_graph.py)."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """auto: cuda, else mps, else cpu."""
    threads: Annotated[int, Field(ge=0)] = 0
    """Processor threads, of all processes together; 0 = torch's choice. The manifest has each one's, since sums depend
    on it."""
    processes: Count = 1
    """Processes on the processor that share each batch, and its threads; faster than as many threads. Batch norm,
    dropout, augmentation and what train.accumulate names take each one's part for itself. GPUs are shared out by
    torchrun instead."""

    @model_validator(mode="after")
    def _one_length(self) -> Train:
        if self.images is not None and self.epochs is not None:
            raise ValueError("give train.images or train.epochs, not both; they are the same thing")
        if self.batch_size % self.accumulate:
            raise ValueError(f"batch_size {self.batch_size} is not divisible by accumulate {self.accumulate}")
        return self


class Evaluate(Section):
    """How a training judges itself on held-out images, to keep its best generator beside the last."""

    every_images: Annotated[int, Field(ge=0)] = 60_000
    """Score the generator at the first tick after every so many images, and at the last; 0 = never."""
    count: Annotated[int, Field(ge=2)] = 2_000
    """Generated images for that score."""


class Recipe(Section):
    """Everything a run needs, and where it comes from."""

    name: Name = "unnamed"
    """Short name; also the default run folder."""
    about: str = ""
    """One sentence on what this recipe is."""
    source: str = ""
    """The publication or idea it follows."""
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    """Fixes initial weights, noise and data order."""
    data: Data = Data()
    network: Network = Network()
    loss: Loss = Loss()
    augment: Augment = Augment()
    train: Train = Train()
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


def shipped(kind: str = "recipe") -> list[str]:
    """Names of the recipes, studies or search spaces in the package, sorted."""
    entries = (resources.files("modiste") / FOLDERS[kind]).iterdir()
    return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))


def source_text(name_or_path: str | Path) -> str:
    """The recipe's file as its author wrote it, comments included."""
    return read_toml(name_or_path)[0]


def load(name_or_path: str | Path) -> Recipe:
    """The recipe of that shipped name, or of that TOML file."""
    text, place = read_toml(name_or_path)
    tree = parsed(text, place)
    tree.setdefault("name", Path(place).stem)
    return build(with_older_defaults(tree), place)


def read_toml(name_or_path: str | Path, kind: str = "recipe") -> tuple[str, str]:
    """The text of the user's file or of the package's recipe, study or search space, and the place that errors name."""
    name, path = str(name_or_path), Path(name_or_path)
    if path.suffix == ".toml" or path.is_file():
        try:
            return path.read_text(encoding="utf-8-sig"), str(path)
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "not UTF-8 text"
            raise UsageError(f"cannot read the {kind} file {path}: {reason}; check the path") from None
    known = shipped(kind)
    if name not in known:
        listed = "`modiste recipes` lists them" if kind == "recipe" else f"there are {', '.join(known)}"
        raise UsageError(
            f"no {kind} is named {name!r}{nearest(name, known)}; {listed}, or give the path of a .toml file"
        )
    return (resources.files("modiste") / FOLDERS[kind] / f"{name}.toml").read_text(encoding="utf-8"), f"{name}.toml"


def parsed(text: str, place: str) -> dict[str, Any]:
    """The tree of a TOML text; `place` is named in the error sentence."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{place} is not valid TOML: {error}; mend the file and try again") from None


def build(tree: Mapping[str, Any], place: str) -> Recipe:
    """A recipe from nested plain values; `place` is named in error sentences."""
    try:
        return Recipe.model_validate(tree)
    except ValidationError as error:
        raise UsageError(f"{place}: {_sentence(error)}") from None


def override(recipe: Recipe, changes: Mapping[str, Any], place: str = "--set") -> Recipe:
    """The recipe with values put in place by dotted key, as {"train.epochs": 3}."""
    tree = recipe.model_dump(exclude_unset=True)
    for key, value in changes.items():
        section, _, leaf = key.rpartition(".")
        if key not in KEYS:
            raise UsageError(
                f"{place}: no key is named {key!r}{nearest(key, KEYS)}; `modiste recipes keys` lists them all"
            )
        target = tree.setdefault(section, {}) if section else tree
        if value is None and section and "none" in get_args(SECTIONS[section].model_fields[leaf].annotation):
            value = "none"  # the bare word, where it is one of the key's own
        target[leaf] = value
        if key in ONE_LENGTH and value is not None:  # two words for one thing: the last one said counts
            target.pop(ONE_LENGTH[key], None)
    return build(tree, place)


def assignments(texts: Iterable[str]) -> dict[str, Any]:
    """Dotted keys and values from `section.key=value` texts; values are TOML literals or bare words."""
    changes = {}
    for text in texts:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not key:
            raise UsageError(f"--set {text!r} is not of the form section.key=value, as in train.epochs=3")
        changes[key] = _value(value)
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


def _value(text: str) -> Any:
    if text.lower() in ("none", "null", ""):
        return None
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def resolve(recipe: Recipe, dataset_size: int) -> Recipe:
    """The recipe with its length in images, the only unit that a running training knows."""
    train = recipe.train
    images = train.images or max(1, round((train.epochs or 1.0) * dataset_size))
    train = train.model_copy(update={"images": images, "epochs": None})
    return recipe.model_copy(update={"train": train})


def to_toml(recipe: Recipe) -> str:
    """Every setting of the recipe as TOML text; `none` is said by leaving its key out."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def from_toml(text: str, place: str) -> Recipe:
    """The inverse of `to_toml`, also of older versions."""
    return build(with_older_defaults(parsed(text, place)), place)


def with_older_defaults(tree: dict[str, Any]) -> dict[str, Any]:
    """The tree of a recipe; one that was written whole before a key was there means what was done then."""
    data: Any = tree.get("data")
    whole = isinstance(data, dict) and {"name", "split", "resize_filter"} <= data.keys()
    return {**tree, "data": with_older_data_defaults(data)} if whole else tree


def with_older_data_defaults(data: dict[str, Any]) -> dict[str, Any]:
    """The section of a recipe that may say nothing of fit and heldout, which then are stretch and last."""
    return {"heldout": "last", **({"fit": "stretch"} if data.get("resize") else {}), **data}


def content_hash(recipe: Recipe) -> str:
    """SHA-256 of all settings but the recipe's name and prose, as 64 hexadecimal digits.

    Keys that came later do not count where they say what was done before they came, so that old hashes stay.
    """
    tree = recipe.model_dump(mode="json", exclude={"name", "about", "source"})
    if recipe.data.resize is None or recipe.data.fit == "stretch":
        del tree["data"]["fit"]
    if recipe.data.background == "black":
        del tree["data"]["background"]
    if recipe.data.group_by is None:
        del tree["data"]["group_by"]
    del tree["data"]["heldout"]  # the run's own, see `differences`
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
    """The recipe, but images are held out as a run that was started with the other one holds them out."""
    return recipe.model_copy(update={"data": recipe.data.model_copy(update={"heldout": started.data.heldout})})


def _flat(recipe: Recipe) -> dict[str, Any]:
    tree = recipe.model_dump(mode="json", exclude={"name", "about", "source"})
    flat = {key: value for key, value in tree.items() if not isinstance(value, dict)}
    return flat | {f"{section}.{key}": value for section in SECTIONS for key, value in tree[section].items()}


FOLDERS = {"recipe": "presets/recipes", "study": "presets/studies", "search space": "presets/searches"}
"""Where the package keeps its TOML files, by their kind."""
SECTIONS: dict[str, type[Section]] = {
    "data": Data,
    "network": Network,
    "loss": Loss,
    "augment": Augment,
    "train": Train,
    "evaluate": Evaluate,
}
TOP_KEYS = [key for key in Recipe.model_fields if key not in SECTIONS]
ONE_LENGTH = {"train.images": "epochs", "train.epochs": "images"}
KEYS = TOP_KEYS + [f"{name}.{key}" for name, section in SECTIONS.items() for key in section.model_fields]


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean ...?` with the known word that looks most like this one; nothing where none does."""
    known = list(known)
    ends = {key.rpartition(".")[2]: key for key in known}
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    close = close or [ends[end] for end in difflib.get_close_matches(word.rpartition(".")[2], ends, n=1, cutoff=0.5)]
    return f"; did you mean {close[0]!r}?" if close else ""


def _sentence(error: ValidationError) -> str:
    """The first validation error in words: the key, the value and what is allowed or near."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if isinstance(part, str) and "-" not in part and "[" not in part)
    if first["type"] == "extra_forbidden":
        return f"no key is named {key!r}{nearest(key, KEYS)}; `modiste recipes keys` lists them all"
    message = first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], (dict, Section)):  # a rule over several keys, which its message names
        return message
    return f"{key} = {first['input']!r} is not possible: {message[0].lower()}{message[1:]}" if key else message

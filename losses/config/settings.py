"""The settings of a run, made once from a command line, a `config.json` or keyword arguments (`resolve.py`)."""
from collections.abc import Sequence
from dataclasses import dataclass, field, fields

from corruptions.utils.files import safe_filename
from losses.components import OBJECTIVES, OPTIMIZERS, PERTURBATIONS, num_passes
from losses.config.table import OPTIONS, TRAINING_OPTIONS
from losses.methods import METHOD_OPTIONS, METHODS, default_for_dataset, default_options
from losses.schedules import SCHEDULES

# These entries of `config.json` mark a run that has begun, and identify its classes and images.
STORED = ("classes", "fingerprints", "images_sha256")


def default(name):
    """Return a dataclass field with the default of an option of `main.py`, as the command line reads it."""
    value = OPTIONS[name].default
    if isinstance(value, str):
        value = OPTIONS[name].kind(value)
    return field(default=tuple(value) if isinstance(value, list) else value)


@dataclass(frozen=True)
class MethodConfig:
    """A method and its training. Fields and the keys of `options` have the names of the options of `main.py`.

    Attributes:
        method, objective, perturbation (str): keys of `METHODS`, `OBJECTIVES`, `PERTURBATIONS`.
        recipe (str): a key of `losses.config.recipes.RECIPES`.
        total_epoch, batch_size, lr, schedule, warmup, final_lr, optimizer, momentum, nesterov, clip_norm, weight_decay,
            weight_decay_on, num_sub_batches, sync_bn, crop_area: options of the training; None if the schedule, the
            optimizer or the crop does not read the option.
        rand_augment, mixup, label_smoothing, accumulate, amp: further options of the training; None for none. With
            random resized crops, None for crop_area stands for `dataset.sampling.CROP_AREA`.
        train_on (str): a key of `TRAIN_ON`; without effect if a table sets the training images.
        sampler, crop, sampling (str): keys of `SAMPLERS`, `CROP_MODES`, `SAMPLINGS`.
        options (dict): the options that the parts of the method read, to their values.
    """

    method: str
    objective: str
    perturbation: str
    recipe: str
    total_epoch: int
    batch_size: int
    lr: float
    schedule: str
    warmup: str | None
    final_lr: float | None
    optimizer: str
    momentum: float | None
    nesterov: bool | None
    clip_norm: float
    weight_decay: float
    weight_decay_on: str
    num_sub_batches: int
    sync_bn: bool
    train_on: str
    sampler: str
    crop: str
    crop_area: Sequence[float] | None
    rand_augment: Sequence[int] | None
    mixup: float | None
    label_smoothing: float | None
    accumulate: int | None
    amp: bool | None
    sampling: str
    options: dict

    @classmethod
    def from_dict(cls, values):
        """Return the settings from the values of all options (dict), in the form that `to_dict` returns."""
        defaults = default_options(values["method"], values["objective"], values["perturbation"])
        chosen = {field.name: values[field.name] for field in fields(cls) if field.name != "options"}
        options = {option: values[option] for option in defaults}
        # An option is also None if the run was begun before the option existed.
        options.update({option: default_for_dataset(defaults[option], values.get("dataset", "cifar10"))
                        for option, value in options.items() if value is None})
        return cls(**chosen, options=options)

    def to_dict(self):
        """Return all options to their values, None for options that the method does not read."""
        chosen = {field.name: getattr(self, field.name) for field in fields(self) if field.name != "options"}
        return {**chosen, **dict.fromkeys(METHOD_OPTIONS), **self.options}

    @property
    def data(self):
        """The name of the data strategy, a key of `DATA_STRATEGIES`."""
        return METHODS[self.method].data

    @property
    def step_options(self):
        """The options that the objective and the perturbation read, to their values."""
        names = {**OBJECTIVES[self.objective].defaults, **PERTURBATIONS[self.perturbation].defaults}
        return {option: self.options[option] for option in names}

    @property
    def training(self):
        """The options that a recipe sets, to their values, without options that optimizer and schedule do not read."""
        values = {option: getattr(self, option) for option in TRAINING_OPTIONS}
        return {option: value for option, value in values.items() if value is not None}

    @property
    def optimizer_options(self):
        """The options that the optimizer reads, to their values, without `weight_decay_on`."""
        names = OPTIMIZERS[self.optimizer].defaults
        return {option: getattr(self, option) for option in names if option != "weight_decay_on"}

    @property
    def schedule_options(self):
        """The options that the schedule reads, to their values."""
        return {option: getattr(self, option) for option in SCHEDULES[self.schedule].defaults}

    @property
    def passes(self):
        """The number of forward and backward passes of a step."""
        return num_passes(self.objective, self.perturbation)

    @property
    def title(self):
        """The method's name, or the pair that replaces it; 'sharpdro_agnostic' with --distribution_agnostic."""
        row, agnostic = METHODS[self.method], METHODS["sharpdro_agnostic"]
        if (self.objective, self.perturbation) == (row.objective, row.perturbation):
            return self.method
        if self.method == "sharpdro" and (self.objective, self.perturbation) == (agnostic.objective,
                                                                                 agnostic.perturbation):
            return "sharpdro_agnostic"
        pair = f"{self.objective} x {self.perturbation}"
        return pair if self.data == "plain" else f"{self.method} {pair}"


@dataclass(frozen=True)
class RunConfig:
    """A run. Fields have the names of the options of `main.py`; its help explains them (`losses/config/table.py`).

    Attributes:
        method (MethodConfig): the method and its training.
        dataset, corruption (str): names of the data set and of the corruption; `corrupt_aug` and `rare_aug` also take
            this corruption, unless they have a corruption of their own.
        model (str): name of the network, as in `models.find_model`.
        seed (int): seed of the split, the initial weights, the batches and a noise.
        init_sha256, stage_one_sha256, split_sha256 (str or None): hashes of the files of these options when the run
            began; None is not checked.
        risk, is_adaptive, distribution_agnostic, augment_data, sync_perturbation: values from the command line;
            `method` has their meaning.
        num_workers (int): number of threads or processes that read images; without effect on the result.
        stored (dict or None): for a run that has begun, its entries `STORED` in `config.json`.
    """

    method: MethodConfig
    dataset: str = default("dataset")
    data_dir: str = default("data_dir")
    corruption: str = default("corruption")
    num_severity: int = default("num_severity")
    num_per_class: int | None = default("num_per_class")
    num_val: int | None = default("num_val")
    val_fraction: float | None = default("val_fraction")
    split: str | None = default("split")
    image_size: int | None = default("image_size")
    mean: Sequence[float] | None = default("mean")
    std: Sequence[float] | None = default("std")
    interpolation: str | None = default("interpolation")
    filelist_dir: str | None = default("filelist_dir")
    corrupted_from: str = default("corrupted_from")
    test_corrupted: str | None = default("test_corrupted")
    seed: int = default("seed")
    model: str = default("model")
    device_target: str | None = default("device_target")
    device_id: int | None = default("device_id")
    fast_math: bool | None = default("fast_math")
    risk: str = default("risk")
    is_adaptive: bool = default("is_adaptive")
    distribution_agnostic: bool = default("distribution_agnostic")
    augment_data: bool = default("augment_data")
    sync_perturbation: bool | None = default("sync_perturbation")
    init_checkpoint: str | None = default("init_checkpoint")
    init_sha256: str | None = None
    stage_one_sha256: str | None = None
    split_sha256: str | None = None
    eval_batch_size: int = default("eval_batch_size")
    eval_every: int = default("eval_every")
    log_train: int = default("log_train")
    checkpoint_every: int | None = default("checkpoint_every")
    keep_last: int = default("keep_last")
    save_step: int = default("save_step")
    save_last: bool = default("save_last")
    save_best: bool = default("save_best")
    best_by: str = default("best_by")
    keep_epochs: Sequence[int] = default("keep_epochs")
    log_sharpness: int | None = default("log_sharpness")
    tensorboard: bool = default("tensorboard")
    record_norm: bool = default("record_norm")
    num_workers: int = default("num_workers")
    show_progress: bool = default("show_progress")
    verbose: bool = default("verbose")
    compile_cache: str | None = default("compile_cache")
    log_dir: str = default("log_dir")
    desc: str = default("desc")
    resume: str | None = default("resume")
    stored: dict | None = None

    @classmethod
    def from_dict(cls, values):
        """Return the settings from the values of all options (dict), with `stored` for a run that has begun."""
        names = {field.name for field in fields(cls)} & values.keys() - {"method"}
        stored = {name: values.get(name) for name in STORED} if values.get("classes") is not None else None
        return cls(method=MethodConfig.from_dict(values), stored=stored, **{name: values[name] for name in names})

    def to_dict(self):
        """Return all options of the run to their values, None for options that its method does not read."""
        values = {field.name: getattr(self, field.name) for field in fields(self)
                  if field.name not in ("method", "stored")}
        if self.num_per_class is None:
            del values["num_per_class"]
        return {**values, **self.method.to_dict()}

    @property
    def has_begun(self):
        """Whether the run continues an earlier session."""
        return self.stored is not None

    def folder_name(self):
        """Return the name of the run's folder, which begins like the file names of the authors' code."""
        method = self.method.title.replace(" x ", "-").replace(" ", "-")
        return (f"{self.desc}_dset{self.dataset}_sever{self.num_severity}_corr{self.corruption}_{method}_"
                f"{safe_filename(self.model)}_seed{self.seed}")

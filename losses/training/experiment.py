"""The data of a run, from its settings."""
import functools

from dataset import load_source, source_options
from dataset.data import ExperimentData, load_images
from dataset.splits import check_split_options, make_split_for
from losses.config.data_checks import check_fits_data
from models.initial_weights import check_sha256
from utils.runtime.distributed import is_main_process


class ExperimentLoader:
    """Loads the data of runs. It keeps the images of the last run, because runs of the same images follow each other.
    """

    def __init__(self):
        self._load_source = functools.lru_cache(maxsize=1)(load_source)
        self._cached_images = functools.lru_cache(maxsize=1)(self._load_images)

    def load_split(self, config):
        """Return the clean images of a run and its split. The options of the run are checked here.

        No corrupted image is made or opened, so an option that does not go with the data costs no time.

        Args:
            config (RunConfig): settings of the run.

        Returns:
            tuple: `ImageDataset` and `Split`.

        Raises:
            UserError: something is missing or damaged, or the options do not go with the data.
        """
        if config.split is not None and not config.has_begun:  # a run that has begun has a copy of its own
            check_sha256("--split", config.split, config.split_sha256)
        numbers = {"num_per_class": config.num_per_class, "num_val": config.num_val, "train_on": config.method.train_on,
                   "val_fraction": config.val_fraction}
        check_split_options(path=config.split, **numbers)
        source = self._source(config)
        split = make_split_for(source, config.num_severity, config.seed, path=config.split, **numbers)
        check_fits_data(config, source, split)
        return source, split

    def load(self, config):
        """Return the data of a run, with the corrupted images. They are made if they are to be on disk and are not.

        Args:
            config (RunConfig): settings of the run.

        Returns:
            dataset.data.ExperimentData

        Raises:
            UserError: something is missing or damaged, or the options do not go with the data, or a run that has begun
                had other images.
        """
        source, split = self.load_split(config)
        images = self._cached_images(
            config.dataset, tuple(source_options(vars(config)).items()), config.data_dir, config.corruption,
            config.num_severity, config.num_workers, config.show_progress and is_main_process(), config.corrupted_from,
            config.test_corrupted)
        data = ExperimentData(source, split, images)
        if config.has_begun:
            source.check_run(config.stored, config.resume or "the run to be resumed", **data.fingerprints)
        return data

    def _source(self, config):
        return self._load_source(config.dataset, config.data_dir, **source_options(vars(config)))

    def _load_images(self, dataset, options, data_dir, *arguments):
        return load_images(self._load_source(dataset, data_dir, **dict(options)), data_dir, *arguments)

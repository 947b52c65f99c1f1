"""The images that networks are evaluated on: clean images and corrupted ones."""
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from corruptions import COMMON, CORRUPTIONS
from corruptions.evaluation.record import CLEAN, file_tag
from corruptions.severities import SEVERITIES
from corruptions.table import set_title, set_words
from corruptions.utils.errors import UserError
from dataset.corrupted import open_corrupted
from dataset.find_published import find_published
from dataset.fingerprints import joint_fingerprint
from dataset.published import CorruptedTestSet
from dataset.sources.base import ImageDataset
from losses.evaluation.predict import describe_network
from utils.records.evaluation import stored_evaluation


@dataclass(frozen=True)
class EvaluationSet:
    """The images that networks are evaluated on, and settings of the evaluation.

    Attributes:
        source (ImageDataset): the data set.
        images (dict): `CLEAN` to a list of the clean images, each corruption to a list over the severities.
        batch_size, workers (int): images in a batch, processes that read or make images; do not change the result.
        show_progress (bool): whether to show the progress bar even if the output is not a terminal.
        severities (list of int): severities of the corrupted images.
        published (CorruptedTestSet or None): source of the corrupted images if they were not made here.
    """

    source: ImageDataset
    images: dict
    batch_size: int
    workers: int
    show_progress: bool
    severities: Sequence[int] = SEVERITIES
    published: CorruptedTestSet | None = None

    @property
    def names(self):
        """The corruptions."""
        return [name for name in self.images if name != CLEAN]

    @cached_property
    def fingerprints(self):
        """`CLEAN` and each corruption to the `Fingerprint` of its images."""
        return {CLEAN: self.source.test_fingerprint,
                **{name: joint_fingerprint(self.images[name]) for name in self.names}}

    def stored(self, trained, model):
        """Return the stored evaluation of the trained network on these images, or None. `model` is its architecture."""
        network = describe_network(model, self.source)
        return stored_evaluation(trained, network, self.names, self.severities, self.fingerprints)


def load_evaluation_set(source, data_dir, corruptions, batch_size, workers, show_progress, corrupted_from="auto",
                        test_corrupted=None, severities=None):
    """Return the `EvaluationSet` of an `ImageDataset`. Images are read or made later.

    Other arguments are as in `evaluate_run`.
    """
    images = {CLEAN: [source.images["test"]]}
    chosen = [corruptions] if isinstance(corruptions, str) else corruptions
    if test_corrupted is not None:
        if corrupted_from != "auto":
            raise UserError(f"--corrupted_from {corrupted_from}: has no effect with --test_corrupted; leave it out")
        published = find_published(test_corrupted, source)
        print(published, flush=True)
        there = published.severities(chosen or published.places)
        lacking = [severity for severity in severities or () if severity not in there]
        if lacking:
            raise UserError(f"--severity {lacking[0]}: not all of these corruptions in {test_corrupted} have it; they "
                            f"have {', '.join(map(str, there))}")
        severities = severities or there
        names = [name for name in published.places if chosen is None or name in chosen]
        images.update({name: published.images(name, severities) for name in names})
        left_out = sorted({s for name in names for s in published.places[name]} - set(there))
        if left_out:
            print(f"warning: {test_corrupted}: not all of these corruptions have severity "
                  f"{', '.join(map(str, left_out))}, which is left out", file=sys.stderr)
        return EvaluationSet(source, images, batch_size, workers, show_progress, severities, published)
    severities = severities or SEVERITIES
    for name in CORRUPTIONS:
        if name in (chosen or COMMON):
            images[name] = open_corrupted(data_dir, source, "test", name, corrupted_from, severities)
    return EvaluationSet(source, images, batch_size, workers, show_progress, severities)


def corruption_set_name(names, published=None, severities=SEVERITIES):
    """Return the name of a set of corruptions in file names, and its title in texts, 'common (15 corruptions)'.

    Args:
        names (list of str): the corruptions.
        published (CorruptedTestSet or None): source of the images if they were not made here.
        severities (sequence of int): severities that are evaluated.
    """
    words = set_words(names)
    if published is not None:
        words = published.name if set(names) == set(published.places) else f"{words} of {published.name}"
    title = set_title(words, len(names))
    everything = SEVERITIES if published is None else published.severities(names)
    if list(severities) == list(everything):
        return file_tag(title), title
    return (f"{file_tag(title)}_severity{'+'.join(map(str, severities))}",
            f"{title}, severity {', '.join(map(str, severities))}")

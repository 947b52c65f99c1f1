"""The baseline of corruption errors: another network's errors on the same corruptions."""
import os
from dataclasses import dataclass

from corruptions.evaluation import alexnet
from corruptions.evaluation.metrics import corruption_error, relative_corruption_error
from corruptions.evaluation.record import severities_of
from corruptions.severities import SEVERITIES
from corruptions.utils.errors import UserError


@dataclass(frozen=True)
class Baseline:
    """The baseline of corruption errors.

    Attributes:
        description (dict): description of the baseline; `name` is its name.
        errors (dict): corruption to a list of the baseline's errors, 0..1, at the needed severities.
        clean_error (float): the baseline's error on clean images, 0..1.
    """

    description: dict
    errors: dict
    clean_error: float

    @classmethod
    def of_record(cls, path, record, names, severities=SEVERITIES, option="--baseline"):
        """Make a baseline from an evaluation.

        Args:
            path (str): path as the user named it, for errors.
            record (dict): the evaluation, as `to_dict` returns it or as read from its file.
            names (list of str): the needed corruptions.
            severities (list of float): the needed severities.
            option (str): name of the option or argument, for errors.

        Raises:
            UserError: the record is not an evaluation, lacks a corruption or a severity, or has a corruption without an
                error.
        """
        try:
            description = {"name": os.path.basename(os.path.abspath(path)),
                           "model": record["model"],
                           **{key: record[key] for key in ("checkpoint", "checkpoint_sha256", "epochs")
                              if key in record}}
            places = {severity: k for k, severity in enumerate(severities_of(record))}
            lacking = [str(severity) for severity in severities if severity not in places]
            errors_by_corruption = {name: [1 - metrics["accuracy"][places[s]] for s in severities if s in places]
                                    for name, metrics in record["corrupted"].items()}
            clean_error = 1 - record["clean"]["accuracy"]
            if not all(0 <= error <= 1 for errors in [[clean_error], *errors_by_corruption.values()]
                       for error in errors):
                raise TypeError
        except (LookupError, TypeError, AttributeError) as error:
            kinds = "a run's folder, a checkpoint, or the JSON file of one" if option.startswith("--") else \
                "the JSON file that BenchmarkResult.write has written"
            raise UserError(f"{option} {path}: not an evaluation; name {kinds}") from error
        way_out = "name its run, which is then evaluated again" if option.startswith("--") else "measure it with them"
        missing = [name for name in names if name not in errors_by_corruption]
        if lacking:
            raise UserError(f"{option} {path}: lacks severity {', '.join(lacking)}; {way_out}")
        if missing:
            raise UserError(f"{option} {path}: lacks {', '.join(missing)}; {way_out}, or leave these corruptions out")
        perfect = [name for name in names if sum(errors_by_corruption[name]) == 0]
        if perfect:
            raise UserError(f"{option} {path}: makes no error under {', '.join(perfect)}, and a corruption error "
                            "is relative to these errors; name another, or leave these corruptions out")
        return cls(description, errors_by_corruption, clean_error)

    @classmethod
    def of_alexnet(cls, names, severities=SEVERITIES, option="--baseline"):
        """Make a baseline from AlexNet's published errors. Arguments are as in `of_record`.

        Raises:
            UserError: no errors are published for a corruption.
        """
        missing = [name for name in names if name not in alexnet.ERRORS]
        if missing:
            raise UserError(f"{option} alexnet: has no published errors under {', '.join(missing)}; name "
                            "another baseline, or leave these corruptions out")
        return cls({"name": alexnet.NAME, "source": alexnet.SOURCE},
                   {name: [alexnet.ERRORS[name][severity - 1] for severity in severities] for name in names},
                   alexnet.CLEAN_ERROR)

    def corruption_error(self, name, rows):
        """Return the corruption error for `rows`, the `CalibrationScores` at the severities of the corruption `name`.
        """
        return corruption_error([1 - row.accuracy for row in rows], self.errors[name])

    def relative_corruption_error(self, name, rows, clean):
        """Return the relative corruption error, or None if the corruption adds nothing to the baseline's error.

        `clean` is the `CalibrationScores` on clean images; the others are as in `corruption_error`.
        """
        return relative_corruption_error([1 - row.accuracy for row in rows], 1 - clean.accuracy, self.errors[name],
                                         self.clean_error)

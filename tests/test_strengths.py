"""Severities: the tables of constants, numbers between two severities, a user's own constants, and their list."""
import hashlib
import os
import warnings

import numpy as np
import pytest

from corruptions import CORRUPTIONS, SETS, Corrupt, Options, corrupt
from corruptions.severities import (
    LIMITS,
    MEANINGS,
    SEVERITY_CONSTANTS,
    WHOLE,
    check_constants,
    nearest_preset,
    severity_constants,
)
from corruptions.utils.errors import UserError
from corruptions.utils.files import read_json
from tests.corruption_errors import CORRUPTION_TOLERANCES
from tests.golden.record_inception import LEFT_OUT, image

IMAGE = np.random.RandomState(1).randint(0, 256, (40, 30, 3)).astype(np.uint8)
RECORD = read_json(os.path.join(os.path.dirname(__file__), "golden", "inception.json"))


# The constant values that the published scripts do not list together with the others.
BESIDES = {"frost": 2, "pinch_and_twirl": 1}


@pytest.mark.parametrize("size", SEVERITY_CONSTANTS)
def test_constants_are_the_published_ones(size):
    published = read_json(os.path.join(os.path.dirname(__file__), "golden", "constants.json"))[str(size)]
    assert len(published) == {32: 29, 64: 19, 224: 29, 299: 19}[size] and set(published) <= set(
        SEVERITY_CONSTANTS[size])
    for name, rows in published.items():
        ours = [np.atleast_1d(values)[:BESIDES.get(name)] for values in SEVERITY_CONSTANTS[size][name]]
        if name == "zoom_blur":  # the end and the step of the zoom factors
            ours = [np.arange(1, *values) for values in ours]
        assert len(ours) == len(rows) == 5
        for values, constants in zip(ours, rows, strict=True):
            np.testing.assert_allclose(values, constants, rtol=1e-12, err_msg=name)


# Corruptions whose last bit depends on the processor have no hash.
@pytest.mark.parametrize("name", [name for name in SETS["all"] if name not in (*LEFT_OUT, *CORRUPTION_TOLERANCES)])
def test_images_of_299_pixels_are_the_published_ones(name):
    ours = [CORRUPTIONS[name](image(), severity, np.random.RandomState(severity), Options(preset=299))
            for severity in range(1, 6)]
    assert [hashlib.sha256(made.tobytes()).hexdigest() for made in ours] == RECORD[name]


def test_thirteen_tables_differ_between_224_and_299_pixels():
    different = {name for name in SETS["all"] if SEVERITY_CONSTANTS[224][name] != SEVERITY_CONSTANTS[299][name]}
    assert different == set(SETS["all"]) - {"zoom_blur", "snow", "frost", "brightness", "contrast", "saturate"}
    assert nearest_preset("fog", 299, 299) == 224  # the size of the published images stays what it was


def test_every_corruption_says_what_its_constants_are():
    assert list(MEANINGS) == list(CORRUPTIONS)
    for name, meanings in MEANINGS.items():
        for table in (table for table in SEVERITY_CONSTANTS.values() if name in table):
            for constants in table[name]:
                values = constants if isinstance(constants, tuple) else (constants,)
                assert len(values) == len(meanings)
                assert all(values[position] == int(values[position]) for position in WHOLE.get(name, ()))


@pytest.mark.parametrize("preset", SEVERITY_CONSTANTS)
def test_constants_between_severities_are_means_of_both(preset):
    for name in SEVERITY_CONSTANTS[preset]:
        low, high = (np.atleast_1d(severity_constants(name, severity, preset)) for severity in (1, 2))
        middle = np.atleast_1d(severity_constants(name, 1.25, preset))
        wanted = 0.75 * low + 0.25 * high
        for position in WHOLE.get(name, ()):
            assert abs(middle[position] - wanted[position]) <= 0.5 and middle[position] == int(middle[position])
            wanted[position] = middle[position]
        np.testing.assert_allclose(middle, wanted)
        assert severity_constants(name, 2.0, preset) == SEVERITY_CONSTANTS[preset][name][1]


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_severities_between_whole_numbers(name):
    made = {severity: corrupt(IMAGE, name, severity, key=3) for severity in (2, 1.5, 4.5)}
    assert made[2].shape == IMAGE.shape and made[1.5].dtype == np.uint8
    np.testing.assert_array_equal(corrupt(IMAGE, name, 2.0, key=3), made[2])
    low, middle, high = (np.atleast_1d(severity_constants(name, severity, 32)) for severity in (1, 1.5, 2))
    assert np.all((middle >= np.minimum(low, high)) & (middle <= np.maximum(low, high)))


def test_the_same_number_of_any_type_is_the_same_severity():
    made = [corrupt(IMAGE, "gaussian_noise", severity, key=0) for severity in (2.1, np.float32(2.1), np.float64(2.1))]
    np.testing.assert_array_equal(made[0], made[1])
    np.testing.assert_array_equal(made[0], made[2])


def test_a_severity_between_two_effects_is_an_error():
    with pytest.raises(UserError, match="severity 2.5: saturate has another effect at 2 than at 3"):
        corrupt(IMAGE, "saturate", 2.5)
    with pytest.raises(UserError, match=r"severity 3.5: spatter has another effect at 3 than at 4 \(0 water, 1 mud\)"):
        corrupt(IMAGE, "spatter", 3.5)
    corrupt(IMAGE, "spatter", 2.5, key=0)


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_the_constants_of_a_severity_do_what_the_severity_does(name):
    constants = SEVERITY_CONSTANTS[nearest_preset(name, *IMAGE.shape[:2])][name][3]
    np.testing.assert_array_equal(CORRUPTIONS[name](IMAGE, None, np.random.RandomState(0), constants=constants),
                                  CORRUPTIONS[name](IMAGE, 4, np.random.RandomState(0)))
    made = corrupt(IMAGE, name, constants=constants, key=2)
    np.testing.assert_array_equal(made, corrupt(np.stack([IMAGE] * 3), name, constants=constants)[2])
    np.testing.assert_array_equal(made, Corrupt(name, constants=constants)(IMAGE, 2))
    if not CORRUPTIONS[name].is_random:
        np.testing.assert_array_equal(made, corrupt(IMAGE, name, 4))


@pytest.mark.parametrize("name, constants, message", [
    ("fog", 1.5, "fog has 2: thickness, decay of the roughness; give a number for each"),
    ("fog", (1, "x"), "fog has 2"), ("fog", (1, float("nan")), "fog has 2"), ("fog", (True, 2), "fog has 2"),
    ("jpeg_compression", 30.5, "JPEG quality of jpeg_compression must be a whole number"),
    ("spatter", (0.65, 0.3, 4, 0.69, 0.6, 0.5), "0 water, 1 mud of spatter must be a whole number"),
    ("shot_noise", 0, "photons at full brightness of shot_noise must be from 0.001 to 1e\\+06"),
    ("pixelate", -1, "must be from 0.001 to 1"), ("zoom_blur", (1.2, 0), "step between the factors of zoom_blur"),
    ("fog", (0, 2), "thickness of fog must be from 0.001 to 1000"), ("jpeg_compression", 500, "must be from 1 to 100"),
    ("spatter", (0.65, 0.3, 4, 0.69, 0.6, 7), "0 water, 1 mud of spatter must be from 0 to 1")])
def test_constants_that_do_not_work_are_named(name, constants, message):
    with pytest.raises(UserError, match=message) as error:
        corrupt(IMAGE, name, constants=constants)
    assert str(error.value).startswith(f"constants {constants!r}: ") and "\n" not in str(error.value)


def test_constants_may_be_an_array():
    made = corrupt(IMAGE, "fog", constants=np.array([2.0, 1.5]))
    np.testing.assert_array_equal(made, corrupt(IMAGE, "fog", constants=(2, 1.5)))


def test_more_disks_than_pixels_are_named():
    with pytest.raises(UserError, match="pinch_and_twirl does not work with them .more disks than the 30 pixels"):
        corrupt(IMAGE, "pinch_and_twirl", constants=(5, 100))


def test_every_published_constant_is_within_the_limits():
    for table in SEVERITY_CONSTANTS.values():
        for name, constants in table.items():
            for values in constants:
                check_constants(name, values)
    assert list(LIMITS) == list(MEANINGS)


@pytest.mark.parametrize("name", sorted(LIMITS))
def test_constants_at_the_limits_work(name):
    """Each constant at its smallest value, the others as published; no warning comes of NumPy or OpenCV."""
    published = SEVERITY_CONSTANTS[32][name][2]
    values = list(published) if isinstance(published, tuple) else [published]
    for position, (low, _) in enumerate(LIMITS[name]):
        low = 0.1 if name == "pixelate" else low  # less of a small image is nothing
        chosen = [*values[:position], int(low) if position in WHOLE.get(name, ()) else low, *values[position + 1:]]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            made = corrupt(IMAGE, name, constants=chosen[0] if len(chosen) == 1 else chosen, key=0)
        assert made.shape == IMAGE.shape


def test_constants_exclude_a_severity():
    for call in (lambda options: corrupt(IMAGE, "fog", constants=(1, 2), options=options),
                 lambda options: Corrupt("fog", constants=(1, 2), options=options)):
        with pytest.raises(UserError, match="preset 64: has no effect beside constants; leave one of them out"):
            call(Options(preset=64))
    with pytest.raises(UserError, match="severity 3: has no effect beside constants"):
        corrupt(IMAGE, "fog", 3, constants=(1, 2))
    with pytest.raises(UserError, match="severity: is missing; give a number from 1 to 5"):
        corrupt(IMAGE, "fog")
    for arguments in ({"names": "common"}, {"names": ["fog", "snow"]}, {"names": "fog", "severity": 3}):
        with pytest.raises(UserError, match="belong to one corruption"):
            Corrupt(**arguments, constants=(1, 2))


def test_a_negative_saturation_is_none():
    """HSV: red of saturation 0.2, and grey."""
    image = np.array([[(200, 160, 160)] * 8] * 4 + [[(120, 120, 120)] * 8] * 4, np.uint8)
    made = corrupt(image, "saturate", constants=(1, -0.5))
    np.testing.assert_array_equal(made, np.repeat(image.max(axis=2, keepdims=True), 3, axis=2))

"""Phantoms as real DICOM files, with what makes real series hard to read."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from convcore.errors import InputError
from convcore.extras import import_pydicom
from convcore.medical.phantom import Phantom

__all__ = ["write_series"]

INTERCEPT = -1024
PADDING = -2000


def write_series(phantom: Phantom, folder: str | os.PathLike[str]) -> list[Path]:
    """Write a phantom as a CT series, one file a slice, and return the files in order of position.

    Explicit VR Little Endian, signed 16 bits, slope 1, intercept -1024, and -2000 outside the scan
    circle, declared in PixelPaddingValue. File names and InstanceNumber are shuffled, as neither
    orders the slices of a real series reliably. UIDs follow from the seed and the shape, so the same
    phantom gives the same bytes.

    Parameters
    ----------
    folder
        Made if it is not there. Files of the same names are replaced.

    Raises
    ------
    InputError
        The folder cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> from convcore.medical import make_phantom
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     len(write_series(make_phantom(seed=7, shape=(3, 32, 32), n_nodules=0), folder))
    3
    """
    pydicom = import_pydicom()
    target = Path(folder)
    n = phantom.hu.shape[0]
    shuffled = np.random.default_rng([phantom.seed, n]).permutation(n)
    stored = phantom.hu - np.int16(INTERCEPT)
    stored[:, phantom.outside] = PADDING
    files = []
    try:
        target.mkdir(parents=True, exist_ok=True)
        for index in range(n):
            number = int(shuffled[index]) + 1
            dataset = _slice(pydicom, phantom, index, number)
            dataset.PixelData = stored[index].astype("<i2").tobytes()
            files.append(target / f"IM{number:04d}.dcm")
            dataset.save_as(files[-1], enforce_file_format=True)
    except OSError as error:
        raise InputError(str(target), f"cannot be written: {error.strerror}") from None
    return files


def _slice(pydicom: Any, phantom: Phantom, index: int, number: int) -> Any:
    content = (phantom.seed, phantom.hu.shape, phantom.spacing, phantom.nodules)

    def uid(*parts: str) -> str:
        return str(pydicom.uid.generate_uid(entropy_srcs=["convcore phantom", str(content), *parts]))

    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = pydicom.uid.CTImageStorage
    dataset.file_meta.MediaStorageSOPInstanceUID = uid("slice", str(index))
    dataset.SOPClassUID = pydicom.uid.CTImageStorage
    dataset.SOPInstanceUID = uid("slice", str(index))
    dataset.StudyInstanceUID = uid("study")
    dataset.SeriesInstanceUID = uid("series")
    dataset.FrameOfReferenceUID = uid("frame")
    dataset.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
    dataset.Modality = "CT"
    dataset.Manufacturer = "convcore phantom"
    dataset.PatientName = "Phantom"
    dataset.PatientID = f"phantom-{phantom.seed}"
    dataset.PatientPosition = "HFS"
    dataset.BodyPartExamined = "CHEST"
    dataset.InstanceNumber = number
    x, y, z = phantom.origin
    step, row, column = phantom.spacing
    dataset.ImagePositionPatient = [_decimal(x), _decimal(y), _decimal(z + index * step)]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [_decimal(row), _decimal(column)]
    # Thicker than the step, as in overlapping reconstructions: not what spaces the slices.
    dataset.SliceThickness = _decimal(1.25 * step)
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = phantom.hu.shape[1:]
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit = 15
    dataset.PixelRepresentation = 1
    dataset.add_new("PixelPaddingValue", "SS", PADDING)
    dataset.RescaleIntercept = INTERCEPT
    dataset.RescaleSlope = 1
    dataset.RescaleType = "HU"
    return dataset


def _decimal(value: float) -> str:
    """Write a length as a decimal string of at most 16 characters, to a hundredth of a micrometre."""
    return f"{value:.5f}"

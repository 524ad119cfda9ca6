"""The errors a user of nerfad can cause.

Each carries one sentence that names the thing and the remedy. The command line prints it without a
traceback and exits with code 2; a library user catches `NerfadError`.
"""


class NerfadError(Exception):
    """Base of every error that user input can cause."""


class InputFileError(NerfadError):
    """A file is missing, truncated, or not of the kind it is used as."""


class VideoError(NerfadError):
    """A video can be read but not used: no face, two faces, no sound, too short, too small."""


class DatasetError(NerfadError):
    """A data set folder lacks something or contradicts itself."""


class CheckpointError(NerfadError):
    """A checkpoint is missing, of another kind, or of another data set."""


class ModelNotFoundError(NerfadError):
    """A model file (landmarker, segmentation, metric weights) is not installed."""


class OutputError(NerfadError):
    """A result cannot be written: no space, no permission, the target is something else."""


class BackendError(NerfadError):
    """The compiled kernels are missing or cannot run where they are asked to."""

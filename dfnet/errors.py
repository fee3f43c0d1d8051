"""Every error this project raises on purpose.

    DFNetError
    ├── CheckpointError          weights or configuration cannot be used
    ├── CaptureError             a capture or capture set is missing, malformed or tampered with
    ├── CalibrationError         calibration data cannot calibrate this network
    ├── MetricError              pictures or scores cannot be compared
    ├── UnsupportedError         an unknown or unavailable choice; the message lists the choices
    ├── MissingDependencyError   an SDK is not installed or does not exist for this system
    ├── ArtifactError            an exported file or its manifest cannot be used
    └── DeviceError              a phone or an emulator does not answer as it must

A message is one sentence on what is wrong with which thing ("got X, needed Y"), then what to do.
Commands print it without a traceback and exit with code 2.
"""


class DFNetError(Exception):
    """Root of the errors a user can mend; ``str(error)`` is the whole message."""


class CheckpointError(DFNetError):
    """A checkpoint is missing, truncated, of another architecture, or holds NaN."""


class CaptureError(DFNetError):
    """A capture or capture set is missing, malformed, of the wrong split, or was altered."""


class CalibrationError(DFNetError):
    """Calibration captures are too few, of the wrong split, or do not exercise the network."""


class MetricError(DFNetError):
    """Pictures or scores to compare are empty, not finite, or of different shapes or types."""


class UnsupportedError(DFNetError):
    """A choice that does not exist or does not work here; the message lists what does."""


class MissingDependencyError(DFNetError):
    """A package or program is not installed, or not available for this system."""


class ArtifactError(DFNetError):
    """An artifact or its manifest is missing, altered, or cannot be written."""


class DeviceError(DFNetError):
    """A phone or an emulator is missing, ambiguous, or fails."""

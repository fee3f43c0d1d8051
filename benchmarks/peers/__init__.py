"""Our files beside the plainest documented export of each SDK, measured in one interleaved run."""

"""One tree of errors. Each says what was wanted, what came, and what to do next."""


class AlluviumError(Exception):
    """Root of everything this library raises on purpose; jobs print it in one line and exit 2."""


class SettingsError(AlluviumError):
    """A configuration or mapping file is wrong; the message lists every fault of the file."""

    def __init__(self, source: str, faults: list[str]) -> None:
        self.source = source
        self.faults = list(faults)
        lines = "\n".join(f"  - {fault}" for fault in faults)
        noun = "fault" if len(faults) == 1 else "faults"
        super().__init__(f"{source}: {len(faults)} {noun}\n{lines}")


class SourceError(AlluviumError):
    """Input that cannot be read as a whole: a missing file, an unknown format, a missing column."""


class StorageError(SourceError):
    """Input that may be whole, but cannot be read now: a right is missing, the storage is away."""


class LakeError(AlluviumError):
    """A table, version or increment that is asked for is not there."""


class ModelError(AlluviumError):
    """A model bundle is damaged, or does not fit the data it is asked to score."""


class RanksError(AlluviumError):
    """Data-parallel training failed on one or more ranks; the champion stays as it was."""


class TrackingError(AlluviumError):
    """A model version, alias or run that is asked for is not in the registry."""

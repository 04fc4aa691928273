"""What recis-core raises, besides TypeError (wrong kind) and ValueError (wrong value)."""


class RecisError(Exception):
    """Base of all errors of our own."""


class BackendUnavailable(RecisError):
    """A backend asked for by name cannot run here; the message says why and what can."""


class TableFull(RecisError):
    """No row or no way is left for a new id; nothing was written."""


class TableLost(RecisError):
    """A call that broke off took a table's arrays with it; a saved state must be loaded."""


class StorageFull(RecisError):
    """The disk has no space left for a table's rows; nothing was lost, and the call may be repeated after space is freed."""


class CorruptStorage(RecisError):
    """A table's files on disk are damaged, or of another format or table."""


class StorageInUse(RecisError):
    """Another process, or another table of this one, has a directory open."""


class NotAFile(RecisError):
    """A directory, link, pipe or device stands where a file is wanted."""


class NonFiniteGradient(RecisError):
    """A sparse gradient holds NaN or inf; the update was not applied."""


class CorruptCheckpoint(RecisError):
    """A saved state is incomplete or its hashes do not match."""


class StateMismatch(CorruptCheckpoint, ValueError):
    """A saved state holds what this model and optimizer do not want, or cannot be; nothing was loaded."""


class ExchangeMismatch(RecisError):
    """Ranks are in different calls, or another rank failed before a call; raised on every rank, before data moves."""


class ExchangeFailed(RecisError):
    """A collective broke off or timed out: a rank died, left early or waits elsewhere."""


class PacketError(RecisError):
    """A packet or a frame of a stream is damaged, cut, forged, of another format, or past a bound; nothing of it was used."""


class StreamGap(PacketError):
    """A packet does not follow what was applied last; a snapshot is needed."""


class PlanDoesNotFit(RecisError):
    """The tables need more memory than the ranks have, however they are placed."""


class NotFitted(RecisError):
    """An op of a feature has numbers to be fitted, and `FeatureEngine.fit` has not run."""

"""Every error funpipe raises for a user's mistake: the offending value, where it is, and the remedy."""


class FunpipeError(ValueError):
    """The base of all errors of funpipe; a `ValueError`, so that existing handlers keep working."""


class FunpipeWarning(UserWarning):
    """Something that is right and that its user may not have wanted; the text says what to do about it."""


class FunpipeTypeError(FunpipeError, TypeError):
    """A value of the wrong type was passed."""


class BatchError(FunpipeError):
    """A batch that cannot be split, merged or padded as asked."""


class TreeError(FunpipeError):
    """A pytree of another structure, or a leaf of another shape or dtype, than expected."""


class TraceError(FunpipeError):
    """A function that cannot be traced to one graph."""


class DataDependentError(TraceError):
    """A function that reads a tensor's value in Python where no constant can stand for it."""


class LossError(FunpipeTypeError):
    """A loss function that returns something that is not a loss."""


class StageError(FunpipeError):
    """A cut that gives no valid stages."""


class ScheduleError(FunpipeError):
    """A schedule whose table breaks a rule; the text shows the grid with the failing cell marked."""


class PlanError(FunpipeError):
    """A cluster or a model that cannot be planned, or a plan that cannot run."""


class ProgramError(FunpipeError):
    """A program that breaks a rule of the verifier: types, matching messages, deadlock, life of values."""


class CompileError(FunpipeError):
    """A step that torch cannot compile, or whose generated code does not do what its program says."""


class MeshError(FunpipeError):
    """A mesh that does not fit the processes, the stages or the schedule."""


class TransportError(FunpipeError, RuntimeError):
    """A message or collective that failed or never came."""


class StateError(FunpipeError):
    """A state of another step, an already consumed one, or one whose step did not finish."""


class CheckpointError(FunpipeError):
    """A checkpoint that cannot be written or read."""


class CommunicationError(FunpipeError):
    """A collective cannot run here, or its arguments do not fit the mesh."""


class GraphError(FunpipeError):
    """A graph breaks its own rules, or something that is looked for is not in it."""


class PassError(FunpipeError):
    """A pass is applied out of order, to the wrong kind of value, or changed what it must keep."""


class RotateError(FunpipeError):
    """Work cannot be moved into the next step, or a state with such work open is used as if it were whole."""

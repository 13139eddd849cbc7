"""What can go wrong, as a tree: catch `JaxrouteError` for all of it."""


class JaxrouteError(ValueError):
    """Bad input; the message names the field, the value and what to do."""


class TableError(JaxrouteError):
    """A table of outcomes that is misshapen, inconsistent or lacks what is asked of it."""


class SourceError(JaxrouteError):
    """A file that is not what its loader expects; the message lists everything that is wrong."""


class EncoderError(JaxrouteError):
    """An encoder that is missing, foreign, or computes something that this code does not."""


class CheckpointError(JaxrouteError):
    """A checkpoint that is missing, incomplete, or does not fit what it is used with."""


class OutputError(JaxrouteError):
    """A place where results cannot be written, or where they would replace something else."""


class PromptError(JaxrouteError):
    """Prompts that cannot be encoded: none at all, or an empty one."""


class RouterError(JaxrouteError):
    """A router that is unknown, has other options, or gives what is not estimates."""

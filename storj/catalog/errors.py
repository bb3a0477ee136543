"""What can be wrong with names, places and files; the second paragraph of each class is advice."""

from __future__ import annotations

from storj.exception import StorjError

__all__ = (
    'BucketNotFound',
    'CatalogError',
    'ConflictError',
    'FileNotFound',
    'LocalPathNotFound',
    'SourceKept',
    'UnsafeNameError',
    'UsageProblem',
)


class CatalogError(StorjError):
    """Something could not be done with the files of an account.

    Args:
        message (str): what happened.
        hint (str | None): what to do next; the class's own advice by default.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class UsageProblem(CatalogError, ValueError):
    """The arguments do not fit together, or a question was not answered with yes.

    'storj COMMAND --help' shows how it is used.
    """


class BucketNotFound(CatalogError):
    """No bucket has this name or id.

    List the buckets with 'storj ls', or make one with 'storj mb'.
    """


class FileNotFound(CatalogError):
    """No file in the bucket has this name or id.

    List the files with 'storj ls storj://BUCKET'.
    """


class LocalPathNotFound(CatalogError):
    """There is nothing at a local path.

    Check the path; patterns are expanded by the shell for local files.
    """


class ConflictError(CatalogError):
    """The destination exists already.

    Use '--overwrite' to replace it.
    """


class UnsafeNameError(CatalogError):
    """A remote name would leave the folder it is copied to, or cannot be a local file.

    Copy the file alone, to a name of your own: 'storj cp storj://BUCKET/NAME other-name'.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f'the remote name {name!r} is not a safe local path')


class SourceKept(CatalogError):
    """A file was copied to where it was to be moved, and is still at its source as well.

    See which of the two is wanted, and remove the other.

    Args:
        source (str): the file.
        reason (str): why it was not removed.
    """

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(f'copied, but not removed ({reason}): {source}')

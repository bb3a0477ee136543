"""What the engine asks of a bridge client; :class:`storj.http.Client` is one.

The engine is handed a client and never imports it, so that it can be driven by any object with
these methods, and so that the client may import the engine. Downloads need a
:class:`BridgeReader`, uploads a :class:`Bridge`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from storj.api import BridgeProfile
from storj.model import Contact, ExchangeReport, File, FilePointer, Frame, Shard, Token

__all__ = ('Bridge', 'BridgeReader')


class BridgeReader(Protocol):
    """The methods of a bridge client that a download calls; each is one request, or a few.

    They are called from many threads at once. An error is a :class:`storj.exception.StorjError`
    whose ``retryable`` says whether the engine may repeat the request. A client that repeats
    requests by itself has a method ``once()`` besides: a context manager within which it leaves
    that to the engine, in the calling thread.
    """

    @property
    def email(self) -> str | None:
        """Of the account; names the reporter of exchanges."""

    @property
    def mnemonic(self) -> str | None:
        """The encryption key."""

    @property
    def api_url(self) -> str:
        """Of the bridge; tells journals of different bridges apart."""

    def profile(self) -> BridgeProfile:
        """Return what the bridge understands; asked once, then remembered."""

    def token_create(self, bucket_id: str, operation: str) -> Token:
        """Return a token of the bucket."""

    def file_metadata(self, bucket_id: str, file_id: str) -> File:
        """Return the description of a file."""

    def file_pointers(
        self,
        bucket_id: str,
        file_id: str,
        skip: int | None = None,
        limit: int | None = None,
        exclude: Sequence[str] | None = None,
    ) -> Sequence[FilePointer] | Iterator[FilePointer]:
        """Return one page of pointers."""

    def send_exchange_report(self, report: ExchangeReport) -> Any:
        """Send a report."""


class Bridge(BridgeReader, Protocol):
    """The methods of a bridge client that an upload calls besides."""

    def bucket_get(self, bucket_id: str) -> Any:
        """Return the bucket; NotFoundError if there is none."""

    def contact_list(self, page: int = 1) -> Iterable[Contact]:
        """Return one page of the farmers that the bridge knows, empty past the last."""

    def file_id(self, bucket_id: str, name: str, *, stored: bool = False) -> str | None:
        """Return the id of the file with this name, as stored if so told; None if there is none."""

    def file_create(
        self,
        bucket_id: str,
        frame_id: str,
        filename: str,
        *,
        mimetype: str | None = None,
        index: str | None = None,
        hmac: Mapping[str, str] | None = None,
        erasure: bool = False,
    ) -> File:
        """Turn a frame into a file."""

    def file_remove(self, bucket_id: str, file_id: str) -> Any:
        """Remove a file."""

    def frame_create(self) -> Frame:
        """Return a new frame."""

    def frame_get(self, frame_id: str) -> Frame:
        """Return a frame; NotFoundError if it is gone."""

    def frame_delete(self, frame_id: str) -> Any:
        """Destroy a frame."""

    def frame_add_shard(
        self, shard: Shard, frame_id: str, excludes: Sequence[str] | None = None
    ) -> Mapping[str, Any]:
        """Add a shard to a frame and return the pointer to the farmer that shall take it."""

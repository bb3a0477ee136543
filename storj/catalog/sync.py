"""Plans that make a folder like a prefix of a bucket, or a prefix like a folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from storj.catalog.copier import Copier
from storj.catalog.entries import FileEntry
from storj.catalog.errors import FileNotFound, LocalPathNotFound, UsageProblem
from storj.catalog.filters import NO_FILTERS, Filters
from storj.catalog.jobs import Job
from storj.catalog.places import Local, Remote
from storj.catalog.removal import remove_local, remove_remote
from storj.catalog.tree import LocalFile, remote_names, walk

__all__ = ('Plan', 'Sync')


@dataclass
class Plan:
    """What is to be done.

    Attributes:
        jobs (list[Job]): files to move.
        surplus (list[LocalFile | FileEntry]): files at the destination only.
        unchanged (int): files that are the same on both sides.
    """

    jobs: list[Job] = field(default_factory=list)
    surplus: list[LocalFile | FileEntry] = field(default_factory=list)
    unchanged: int = 0


class Sync:
    """Compares a folder with a prefix of a bucket.

    A file is copied if it is missing at the destination, has another size there, or is older.

    Args:
        copier (Copier): makes the jobs.
        folder (Local): on this machine.
        prefix (Remote): in a bucket.
        sending (bool): whether the folder is the source.
        filters (Filters): which files are meant on either side.
        checksum (bool): whether contents are compared instead of times.

    Raises:
        UsageProblem: If the folder is a file.
        LocalPathNotFound, FileNotFound: If the source does not exist.
    """

    def __init__(
        self,
        copier: Copier,
        folder: Local,
        prefix: Remote,
        *,
        sending: bool,
        filters: Filters = NO_FILTERS,
        checksum: bool = False,
    ) -> None:
        if folder.path.exists() and not folder.path.is_dir():
            raise UsageProblem(f'{folder} is no folder', hint="'storj cp' copies single files")
        self._copier = copier
        self._sending = sending
        self._checksum = checksum
        self._folder = folder.path
        self._bucket = copier.catalog.bucket(prefix.bucket)
        self._base = prefix.path if prefix.is_folder else f'{prefix.path}/'
        stored = remote_names(copier.catalog, self._bucket, self._base)
        if sending and not self._folder.is_dir():
            raise LocalPathNotFound(f'no such folder: {folder}')
        if not sending and not stored and self._base:
            # If the surplus is removed, a mistyped prefix would empty the folder.
            raise FileNotFound(f'no files in {Remote(self._bucket.name, self._base)}')
        self._remote = {name: entry for name, entry in stored.items() if filters.accept(name)}
        follow = copier.options.follow_links
        found = walk(self._folder, filters, follow=follow) if self._folder.is_dir() else ()
        self._local = {file.name: file for file in found}

    def plan(self) -> Plan:
        """Return what is to be done."""
        plan = Plan()
        for name in self._local if self._sending else self._remote:
            file, entry = self._local.get(name), self._remote.get(name)
            if file is not None and entry is not None and not self._differs(file, entry):
                plan.unchanged += 1
            elif self._sending:
                target = self._base + name
                plan.jobs.append(
                    self._copier.upload(self._local[name], self._bucket, target, entry)
                )
            else:
                plan.jobs.append(self._download(name, self._remote[name]))
        if self._sending:
            # What cannot be read here counts as present: its job fails, and nothing is removed.
            plan.surplus += [it for name, it in self._remote.items() if name not in self._local]
        else:
            plan.surplus += [
                file
                for name, file in self._local.items()
                if name not in self._remote and file.trouble is None
            ]
        return plan

    def remove(
        self, surplus: Sequence[LocalFile | FileEntry]
    ) -> Iterator[tuple[LocalFile | FileEntry, Exception | None]]:
        """Remove files of the destination, and folders that become empty.

        Yields:
            tuple: each file, and what kept it from being removed.
        """
        stored = [item for item in surplus if isinstance(item, FileEntry)]
        yield from remove_remote(self._copier.catalog.client, stored)
        yield from remove_local(
            (item for item in surplus if isinstance(item, LocalFile)), self._folder
        )

    def _differs(self, file: LocalFile, entry: FileEntry) -> bool:
        if file.trouble is not None or file.size != entry.size:
            return True
        if self._checksum:
            return not self._copier.same_content(file.path, entry, sending=self._sending)
        source, present = file.stamp, entry.stamp
        if not self._sending:
            source, present = present, source
        return not present.serves_for(source)

    def _download(self, name: str, entry: FileEntry) -> Job:
        job = self._copier.download_into(entry, name, self._folder)
        job.finish = _dated(job, entry)
        return job


def _dated(job: Job, entry: FileEntry) -> Callable[[Any], None]:
    """Return what gives a download the time of its entry: the next run finds it unchanged."""

    def finish(_: Any) -> None:
        if entry.created is not None:
            moment = entry.created.timestamp()
            os.utime(job.destination, (moment, moment))

    return finish

"""``storj sync``: make a bucket or prefix like a folder, or a folder like a bucket or prefix."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from storj.catalog.entries import FileEntry, Stamp
from storj.catalog.errors import FileNotFound, LocalPathNotFound, UnsafeNameError, UsageProblem
from storj.catalog.places import Local, Remote, parse_location, safe_relative_path
from storj.catalog.tree import LocalFile, remote_names, walk
from storj.cli.command import command
from storj.cli.completion import complete_place
from storj.cli.copier import Copier, CopyOptions
from storj.cli.copy import announce, perform, upload_options
from storj.cli.errors import explain
from storj.cli.files import remove_entries
from storj.cli.jobs import Job, Summary, finish
from storj.cli.options import filter_options, follow_option, transfer_options, yes_option
from storj.cli.output import count_of
from storj.cli.prompts import confirm
from storj.cli.session import Session, TransferOptions, pass_session

__all__ = ('sync',)


@dataclass
class _Plan:
    """What is to be done.

    Attributes:
        jobs (list[Job]): files to move.
        surplus (list[Any]): files of the destination that the source does not have.
        alike (int): files that are the same on both sides.
    """

    jobs: list[Job] = field(default_factory=list)
    surplus: list[Any] = field(default_factory=list)
    alike: int = 0


@command(
    'sync',
    short_help='Make one folder or bucket like another.',
    examples=(
        'storj sync notes storj://backup/notes           upload what is new or changed',
        'storj sync --delete storj://backup/notes notes  and remove what is gone',
        'storj sync --checksum --dry-run notes storj://backup/notes',
    ),
)
@click.argument('source', shell_complete=complete_place)
@click.argument('destination', shell_complete=complete_place)
@click.option('--delete', is_flag=True, help='Remove from the destination what the source lacks.')
@click.option('--checksum', is_flag=True, help='Compare contents, not only size and time.')
@filter_options
@follow_option
@click.option('--dry-run', is_flag=True, help='Say what would be done, and do nothing.')
@yes_option
@upload_options
@transfer_options
@pass_session
def sync(
    session: Session,
    source: str,
    destination: str,
    delete: bool,
    checksum: bool,
    follow_links: bool,
    dry_run: bool,
    yes: bool,
    plain_names: bool | None,
    encrypt: bool,
    parity: bool | None,
    mimetype: str | None,
    resume: bool,
    **engine: Any,
) -> None:
    """Make DESTINATION like SOURCE: one a folder, the other storj://BUCKET/PREFIX.

    A file is moved when the destination lacks it, has another size, or is older; with --checksum
    when the contents differ. Only --delete removes anything.
    """
    origin, target = parse_location(source), parse_location(destination)
    how = CopyOptions(
        True,
        encrypt,
        plain_names,
        parity,
        mimetype,
        resume=resume,
        several=True,
        follow_links=follow_links,
    )
    options = TransferOptions(**engine)
    maker: _Up | _Down
    if isinstance(origin, Local) and isinstance(target, Remote):
        maker = _Up(session, Copier(session, how, options), origin, target, checksum=checksum)
    elif isinstance(origin, Remote) and isinstance(target, Local):
        maker = _Down(session, Copier(session, how, options), target, origin, checksum=checksum)
    else:
        raise UsageProblem(
            'sync needs a folder and a storj:// URI', hint='storj sync FOLDER storj://BUCKET/PREFIX'
        )
    plan = maker.plan()
    surplus = plan.surplus if delete else []
    if dry_run:
        forecast = announce(session, plan.jobs, plan.alike)
        for item in surplus:
            _tell(session, 'would remove', item, 'file_planned')
        forecast.removals = len(surplus)
        forecast.report(session.output)
        return
    if surplus:
        confirm(f'remove {count_of(len(surplus), "file")} from {destination}', yes=yes)
    if not plan.jobs and not surplus:
        session.output.note(f'nothing to do: {count_of(plan.alike, "file")} unchanged')
    summary = perform(session, plan.jobs, options)
    summary.unchanged = plan.alike
    # Only after everything arrived: a failed run must not lose the last copy.
    if surplus and summary.exit_code:
        session.output.note('nothing is removed, because not everything arrived')
    elif surplus:
        maker.remove(surplus, summary)
    if plan.jobs or surplus or session.output.as_json:
        finish(session.output, summary, several=True)


class _Side:
    """Compares a folder with a prefix.

    Args:
        session (Session): of the command.
        copier (Copier): makes the jobs.
        folder (Local): on this machine.
        prefix (Remote): in a bucket.
        checksum (bool): compare contents too.
    """

    #: Whether the folder is the source.
    sending: bool

    def __init__(
        self, session: Session, copier: Copier, folder: Local, prefix: Remote, *, checksum: bool
    ) -> None:
        if folder.path.exists() and not folder.path.is_dir():
            raise UsageProblem(f'{folder} is no folder', hint="'storj cp' copies single files")
        self.session = session
        self.copier = copier
        self.folder = folder.path
        self.bucket = copier.catalog.bucket(prefix.bucket)
        self.base = prefix.path if prefix.is_folder else f'{prefix.path}/'
        self.checksum = checksum
        stored = remote_names(copier.catalog, self.bucket, self.base)
        self.prefix_exists = bool(stored) or not self.base
        accept = session.filters.accept
        self.remote = {name: entry for name, entry in stored.items() if accept(name)}
        found = (
            walk(self.folder, session.filters, follow=copier.follow_links)
            if self.folder.is_dir()
            else ()
        )
        self.local = {file.name: file for file in found}

    def differs(self, file: LocalFile, entry: FileEntry, source: Stamp, present: Stamp) -> bool:
        """Return whether a file is to be moved.

        Args:
            file (LocalFile): of the folder.
            entry (FileEntry): of the bucket.
            source (Stamp): of the one that is the source.
            present (Stamp): of the other.
        """
        if file.trouble is not None or file.size != entry.size:
            return True
        if self.checksum:
            return not self.copier.same_content(file.path, entry, sending=self.sending)
        return not present.serves_for(source)


class _Up(_Side):
    """Folder to bucket."""

    sending = True

    def plan(self) -> _Plan:
        """Return what is to be uploaded, and what the bucket has too many."""
        if not self.folder.is_dir():
            raise LocalPathNotFound(f'no such folder: {self.folder}')
        plan = _Plan(
            surplus=[entry for name, entry in self.remote.items() if name not in self.local]
        )
        for name, file in self.local.items():
            entry = self.remote.get(name)
            if entry is not None and not self.differs(file, entry, file.stamp, entry.stamp):
                plan.alike += 1
                continue
            plan.jobs.append(self.copier.upload(file, self.bucket, self.base + name, entry))
        return plan

    def remove(self, surplus: Sequence[FileEntry], summary: Summary) -> None:
        """Remove files from the bucket, and count them."""
        remove_entries(self.session, surplus, summary)


class _Down(_Side):
    """Bucket to folder."""

    sending = False

    def plan(self) -> _Plan:
        """Return what is to be downloaded, and what the folder has too many."""
        if not self.prefix_exists:
            # With --delete, a mistyped prefix would empty the folder.
            raise FileNotFound(f'no files in {Remote(self.bucket.name, self.base)}')
        plan = _Plan(
            surplus=[
                file
                for name, file in self.local.items()
                if name not in self.remote and file.trouble is None
            ]
        )
        for name, entry in self.remote.items():
            file = self.local.get(name)
            if file is not None and not self.differs(file, entry, entry.stamp, file.stamp):
                plan.alike += 1
                continue
            try:
                path = self.folder / safe_relative_path(name)
            except UnsafeNameError as error:
                plan.jobs.append(self.copier.refused(str(entry), entry.id, error))
                continue
            job = self.copier.download(entry, path, self.folder)
            job.finish = _dated(path, entry)
            plan.jobs.append(job)
        return plan

    def remove(self, surplus: Sequence[LocalFile], summary: Summary) -> None:
        """Remove files from the folder, and folders that become empty, and count the files."""
        for file in surplus:
            try:
                file.path.unlink()
                for parent in file.path.parents:
                    if parent == self.folder or any(parent.iterdir()):
                        break
                    parent.rmdir()
            except OSError as error:
                summary.failures.append((str(file.path), error))
                if self.session.output.as_json:
                    record = {'action': 'remove', 'destination': str(file.path)}
                    self.session.output.event(
                        {**record, **explain(error).to_dict(), 'type': 'file_failed'}
                    )
            else:
                summary.removed += 1
                _tell(self.session, 'removed', file, 'file_removed')


def _dated(path: Path, entry: FileEntry) -> Callable[[Any], None]:
    """Return what gives a download the time of its entry, so that the next run finds it alike."""

    def finish(_: Any) -> None:
        if entry.created is not None:
            moment = entry.created.timestamp()
            os.utime(path, (moment, moment))

    return finish


def _tell(session: Session, verb: str, item: LocalFile | FileEntry, event: str) -> None:
    place = str(item) if isinstance(item, FileEntry) else str(item.path)
    if session.output.as_json:
        session.output.event({'type': event, 'action': 'remove', 'destination': place})
    elif not session.output.quiet:
        session.output.line(f'{verb} {place}')

"""``storj key`` (also ``storj-key``): the encryption key, and ECDSA keys that sign requests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from storj.catalog.errors import UsageProblem
from storj.cli.command import group
from storj.cli.errors import CommandError
from storj.cli.options import LocalPath, mnemonic_file_option, yes_option
from storj.cli.output import Column
from storj.cli.prompts import ask_secret, confirm, interactive, read_secret_file
from storj.cli.session import Session, pass_session
from storj.text import to_system

#: No PEM file of a key is longer.
_PEM_LIMIT = 64 * 1024


@group(
    'key',
    short_help='Encryption key and signing keys.',
    examples=(
        'storj key generate --mnemonic           a new encryption key',
        'storj key generate                      a key pair to sign requests with',
        'storj key register                      let the bridge accept it',
    ),
)
def key() -> None:
    """Encryption key and signing keys.

    The encryption key (a BIP39 mnemonic) encrypts files and names; everybody who has it can read
    everything. A key pair signs requests instead of the password, once it is registered.
    """


@key.command('generate', examples=('storj key generate', 'storj key generate --mnemonic'))
@click.option('--mnemonic', is_flag=True, help='An encryption key instead of a key pair.')
@click.option(
    '--bits',
    type=click.Choice(('128', '160', '192', '224', '256')),
    default='256',
    show_default=True,
    help='Strength of the encryption key.',
)
@click.option('--folder', type=LocalPath(file_okay=False), help='Folder for the key pair.')
@click.option('--overwrite', is_flag=True, help='Replace a key pair.')
@pass_session
def generate(
    session: Session, mnemonic: bool, bits: str, folder: str | None, overwrite: bool
) -> None:
    """Make a key pair to sign with, or with --mnemonic an encryption key.

    The encryption key is printed and not kept: 'storj key load --mnemonic' keeps it.
    """
    if mnemonic:
        from storj.crypto.mnemonic import generate as new_key

        made = new_key(int(bits))
        session.output.note('write this key down; without it nothing can be decrypted')
        session.output.result(made, {'mnemonic': made})
        return
    client = session.make_client(None, None)
    place = session.key_folder if folder is None else Path(folder)
    client.key_generate(place, overwrite=overwrite, register=False)
    _report(session, client, place)


@key.command('export', examples=('storj key export backup/', 'storj key export --mnemonic'))
@click.argument('folder', required=False, type=LocalPath(file_okay=False))
@click.option('--mnemonic', is_flag=True, help='Print the encryption key instead.')
@click.option('--overwrite', is_flag=True, help='Replace existing files.')
@yes_option
@pass_session
def export(
    session: Session, folder: str | None, mnemonic: bool, overwrite: bool, yes: bool
) -> None:
    """Write the key pair to a folder, or print the encryption key."""
    if mnemonic:
        if session.encryption_key is None:
            raise CommandError(
                'no encryption key is set', hint="'storj key generate --mnemonic' makes one"
            )
        # Only at a terminal, which others may see and which keeps what it has shown.
        if interactive():
            confirm('show the encryption key of all files', yes=yes)
        session.output.result(session.encryption_key, {'mnemonic': session.encryption_key})
        return
    client = session.make_client(None, None)
    client.key_import(*_pair(session.key_folder), register=False)
    place = Path(folder or '.')
    _write_pair(client, place, overwrite=overwrite)
    _report(session, client, place)


@key.command('load', examples=('storj key load private.pem', 'storj key load --mnemonic'))
@click.argument('private', required=False, type=LocalPath(dir_okay=False))
@click.argument('public', required=False, type=LocalPath(dir_okay=False))
@click.option('--mnemonic', is_flag=True, help='Load an encryption key instead.')
@mnemonic_file_option
@click.option('--overwrite', is_flag=True, help='Replace the key pair or the encryption key.')
@pass_session
def load(
    session: Session,
    private: str | None,
    public: str | None,
    mnemonic: bool,
    mnemonic_file: str | None,
    overwrite: bool,
) -> None:
    """Keep a key pair from PEM files, or an encryption key, in the settings."""
    if mnemonic or mnemonic_file is not None:
        _load_encryption_key(session, mnemonic_file, overwrite=overwrite)
        return
    if private is None:
        raise UsageProblem('which key?', hint='storj key load PRIVATE.PEM [PUBLIC.PEM]')
    client = session.make_client(None, None)
    client.key_import(private, public, register=False)
    _write_pair(client, session.key_folder, overwrite=overwrite)
    _report(session, client, session.key_folder)


def _load_encryption_key(session: Session, path: str | None, *, overwrite: bool) -> None:
    from storj.crypto import mnemonic

    if path is None:
        found = ask_secret('Encryption key', option='--mnemonic-file')
    else:
        found = read_secret_file(path)
    found = ' '.join(found.split())
    mnemonic.check(found)
    if session.settings.mnemonic not in (None, found) and not overwrite:
        raise CommandError(
            'another encryption key is set; files stored with it need it',
            hint="keep it ('storj key export --mnemonic'), then use '--overwrite'",
        )
    session.save(mnemonic=found)
    session.output.done('encryption key saved', {'mnemonic_set': True})


@key.command('list', examples=('storj key list',))
@pass_session
def list_(session: Session) -> None:
    """List the public keys that the bridge accepts for this account."""
    rows = [{'key': text} for text in session.client.key_list()]
    session.output.table((Column('key'),), rows, empty='no keys are registered')


@key.command('register', examples=('storj key register', 'storj key register public.pem'))
@click.argument('public', required=False)
@pass_session
def register(session: Session, public: str | None) -> None:
    """Register a public key: that of the kept pair, a PEM file, or hex digits."""
    text = _public_key(session, public)
    session.client.key_register(text)
    session.output.done('key registered', {'registered': True, 'key': session.client.key_list()})


@key.command('delete', examples=('storj key delete 03a1...',))
@click.argument('public')
@yes_option
@pass_session
def delete(session: Session, public: str, yes: bool) -> None:
    """Remove a public key from the account; give it as 'storj key list' shows it."""
    confirm(f'remove the key {public}', yes=yes)
    session.client.key_delete(public)
    session.output.done('key removed', {'removed': True, 'key': public})


def _public_key(session: Session, given: str | None) -> str:
    """Return a public key as PEM or hex."""
    if given is None:
        client = session.make_client(None, None)
        client.key_import(*_pair(session.key_folder), register=False)
        return client.public_key_hex or ''
    path = Path(to_system(given))
    if path.is_file():
        with path.open(encoding='ascii', errors='replace') as file:
            return file.read(_PEM_LIMIT)
    return given


def _pair(folder: Path) -> tuple[Path, Path]:
    from storj.rest.keys import NAMES

    pair = folder / NAMES[0], folder / NAMES[1]
    if not pair[0].exists():
        raise CommandError(f'no key pair in {folder}', hint="'storj key generate' makes one")
    return pair


def _write_pair(client: Any, folder: Path, *, overwrite: bool) -> None:
    """Write a client's key pair as Client.key_export does, and print nothing."""
    from storj.rest import keys

    pems = keys.pem_pair(client.private_key, client.public_key)
    keys.write_key_pair(folder, pems, keys.NAMES, overwrite=overwrite)


def _report(session: Session, client: Any, folder: Path) -> None:
    session.output.record({'public_key': client.public_key_hex, 'folder': str(folder)})

"""``storj account``: register, log in, log out, and the rest of an account's life."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from storj.catalog.errors import ConflictError, UsageProblem
from storj.cli.command import group
from storj.cli.errors import NotLoggedIn
from storj.cli.options import LocalPath, mnemonic_file_option, yes_option
from storj.cli.prompts import (
    ask,
    ask_secret,
    confirm,
    find_secret,
    forget_secret,
    interactive,
    keep_secret,
    read_secret_file,
)
from storj.cli.session import Session, pass_session
from storj.configuration import Configuration, set_variables
from storj.exception import DecryptionError
from storj.text import count_of

#: Bytes of the longest login of libstorj.
_FILE_LIMIT = 1024 * 1024


@group(
    'account',
    short_help='Register, log in, log out.',
    examples=(
        'storj account register                     at the bridge of the settings',
        'storj account login                        keeps e-mail, password and encryption key',
        'storj account login --libstorj             shares the login with libstorj',
    ),
)
def account() -> None:
    """Register, log in, log out.

    A password comes from STORJ_BRIDGE_PASS, from --password-file, from the system's key store, or
    is asked for; it is never an argument.
    """


def _credential_options(function: Any) -> Any:
    function = click.option(
        '--password-file',
        metavar='PATH',
        type=LocalPath(),
        help='Read the password from a file, or - for stdin.',
    )(function)
    return click.option('--email', help='E-mail address of the account.')(function)


def _email(session: Session, given: str | None) -> str:
    return given or session.settings.email or ask('E-mail', option='--email')


def _password(
    session: Session, path: str | None, email: str, *, new: bool = False, kept: bool = True
) -> str:
    """Return the password, from the first place that has one."""
    settings = session.settings
    if path is not None:
        return read_secret_file(path, what='password')
    if kept and settings.password is not None and settings.email in (None, email):
        return settings.password
    found = None if new else find_secret(settings.bridge, email, 'password')
    return found or ask_secret('Password', option='--password-file', twice=new)


@account.command('register', examples=('storj account register --email alice@example.org',))
@_credential_options
@pass_session
def register(session: Session, email: str | None, password_file: str | None) -> None:
    """Make an account at the bridge.

    Most bridges send a mail with a token: 'storj account activate TOKEN'. Then log in.
    """
    session.new_profile = True
    email = _email(session, email)
    password = _password(session, password_file, email, new=True)
    with session.make_client(None, None) as client:
        user = client.user_create(email, password)
    active = bool(getattr(user, 'activated', False))
    text = f'account {email} created'
    session.output.done(text, {'email': email, 'activated': active})
    session.output.note(
        "next: 'storj account login'"
        if active
        else "next: open the mail and run 'storj account activate TOKEN', then log in"
    )


@account.command(
    'login', examples=('storj account login', 'storj account login --libstorj --keyring')
)
@_credential_options
@mnemonic_file_option
@click.option('--keyring', is_flag=True, help="Keep secrets in the system's key store.")
@click.option(
    '--libstorj', is_flag=True, help='Read and write the login that libstorj keeps for the bridge.'
)
@pass_session
def login(
    session: Session,
    email: str | None,
    password_file: str | None,
    mnemonic_file: str | None,
    keyring: bool,
    libstorj: bool,
) -> None:
    """Keep e-mail, password and encryption key (mnemonic).

    E-mail and password are checked at the bridge first. The first login makes an encryption key and
    shows it once: write it down. On another machine give the same key, or nothing that is stored
    can be read there.
    """
    session.new_profile = True
    shared = _SharedLogin.open(session) if libstorj else None
    email = email or (shared and shared.email) or _email(session, None)
    _check_owner(session, email, shared)
    password = _login_password(session, password_file, email, shared)
    # Before anything is saved: a mistyped password must not replace the right one.
    with session.make_client(email, password) as client:
        client.key_list()
    key, made = _encryption_key(session, email, mnemonic_file, shared)
    _check_encryption_key(session, email, key)
    path = _save_login(session, email, password, key, keyring=keyring)
    if shared is not None:
        shared.write(email, password, key)
    record = {'email': email, 'bridge': session.settings.bridge, 'path': str(path)}
    if made:
        record['mnemonic'] = key
    session.output.done(f'logged in as {email}; saved in {path}', record)
    if made and not session.output.as_json:
        for line in _NEW_KEY.format(key).split('\n'):
            session.output.warn(line)


_NEW_KEY = """
This key encrypts your files. It is shown only now: write it down.
Without it nobody can read the files again.

    {}
"""


def _login_password(
    session: Session, path: str | None, email: str, shared: _SharedLogin | None
) -> str:
    if shared is not None and shared.found and path is None:
        return shared.password
    return _password(session, path, email)


def _save_login(session: Session, email: str, password: str, key: str, *, keyring: bool) -> Path:
    """Write the login into ``storj.ini``, its secrets into the key store if that is to be used."""
    bridge = session.settings.bridge
    if not keyring:
        return session.save(
            email=email,
            bridge=bridge,
            password=password,
            mnemonic=key,
            mnemonic_email=email,
            keyring=None,
        )
    secrets = {'password': password, 'mnemonic': key}
    for kind, secret in secrets.items():
        keep_secret(bridge, email, kind, secret)
    cleared = dict.fromkeys([*secrets, 'mnemonic_email'])
    return session.save(email=email, bridge=bridge, keyring='true', **cleared)


def _owner(kept: Configuration) -> str | None:
    """Return the account whose files the encryption key in the file encrypts."""
    return kept.mnemonic_email or kept.email


class ConflictingKey(ConflictError):
    """The encryption key of another login would be used, or lost.

    Log in to a profile of its own, 'storj --profile NAME account login', or first remove the key,
    'storj account logout --forget-mnemonic'.
    """


def _check_owner(session: Session, email: str, shared: _SharedLogin | None) -> None:
    """Refuse to log in where the encryption key of another account is kept.

    Raises:
        ConflictingKey: If they are.
    """
    kept = session.kept_settings
    places = [(f'profile {kept.profile!r}', _owner(kept) if kept.mnemonic else None)]
    if shared is not None and shared.found:
        places.append((str(shared.path), shared.email))
    for place, owner in places:
        if owner is not None and owner.casefold() != email.casefold():
            raise ConflictingKey(f'{place} has the encryption key of {owner}, whose files need it')


def _check_encryption_key(session: Session, email: str, key: str) -> None:
    """Refuse to replace the encryption key of the same account by another.

    Raises:
        ConflictingKey: If another key is kept.
    """
    kept = session.kept_settings
    found = {kept.mnemonic}
    if kept.keyring:
        found.add(find_secret(session.settings.bridge, email, 'mnemonic'))
    if found - {key, None}:
        raise ConflictingKey(f'another encryption key of {email} is saved, and its files need it')


def _encryption_key(
    session: Session, email: str, path: str | None, shared: _SharedLogin | None
) -> tuple[str, bool]:
    """Return the encryption key, and whether it is new."""
    from storj.crypto import mnemonic

    settings = session.settings
    key = settings.mnemonic
    if settings.email not in (None, email):
        # It belongs to the account of the environment, or of the key store.
        key = session.kept_settings.mnemonic
        if key is None and settings.keyring:
            key = find_secret(settings.bridge, email, 'mnemonic')
    if path is not None:
        key = ' '.join(read_secret_file(path, what='encryption key').split())
    elif shared is not None and shared.mnemonic is not None:
        key = shared.mnemonic
    elif key is None and interactive():
        session.output.note('The key of another machine or of libstorj, or Enter for a new one.')
        answer = click.prompt(
            'Encryption key', default='', hide_input=True, show_default=False, err=True
        )
        key = ' '.join(answer.split()) or None
    if key is None:
        return mnemonic.generate(), True
    mnemonic.check(key)
    return key, False


@account.command('logout', examples=('storj account logout',))
@click.option(
    '--forget-mnemonic', '--forget-words', is_flag=True, help='Remove the encryption key as well.'
)
@yes_option
@pass_session
def logout(session: Session, forget_mnemonic: bool, yes: bool) -> None:
    """Forget e-mail and password.

    The encryption key stays unless --forget-mnemonic is given.
    """
    settings = session.settings
    if forget_mnemonic and settings.mnemonic:
        confirm('forget the encryption key of your files', yes=yes)
    session.cache.forget()
    kinds = ['password'] + ['mnemonic'] * forget_mnemonic
    if settings.keyring and settings.email:
        for kind in kinds:
            forget_secret(settings.bridge, settings.email, kind)
    kept = session.kept_settings
    owner = None if forget_mnemonic or kept.mnemonic is None else _owner(kept)
    session.save(email=None, mnemonic_email=owner, **dict.fromkeys(kinds))
    _report_logout(session)


def _report_logout(session: Session) -> None:
    """Report the logout, or which settings still log in."""
    settings, output = session.settings, session.output
    places = set_variables('email', 'password', 'keypass')
    logged_in = settings.email is not None and settings.password is not None
    record: dict[str, Any] = {'logged_in': logged_in}
    if logged_in:
        record |= {'email': settings.email, 'environment': places}
    output.done('logged out', record)
    if logged_in:
        names = ' and '.join(places) or "user and password in the bridge's URL"
        output.note(f'{names} still log in as {settings.email}: unset them to log out')
    if settings.private_key is not None:
        output.note(f'requests are still signed with {settings.private_key}')
    if settings.key_file is not None and settings.key_file.exists():
        output.note(f"libstorj's login stays in {settings.key_file}")


@account.command('activate', examples=('storj account activate 5f3a...',))
@click.argument('token', required=False)
@click.option('--resend', is_flag=True, help='Send the mail with the token again.')
@click.option('--email', help='E-mail address of the account, with --resend.')
@pass_session
def activate(session: Session, token: str | None, resend: bool, email: str | None) -> None:
    """Activate an account with the token from its mail."""
    if resend == (token is not None):
        raise UsageProblem('give either a TOKEN or --resend', hint='the mail has the token')
    with session.make_client(None, None) as client:
        if token is None:
            address = _email(session, email)
            client.user_activation_email(address)
            session.output.done(f'mail sent to {address}', {'email': address, 'sent': True})
            return
        user = client.user_activate(token)
    session.output.done('account activated', {'email': user.email, 'activated': True})


@account.command(
    'reset-password',
    examples=('storj account reset-password', 'storj account reset-password --token 9c1d...'),
)
@_credential_options
@click.option('--token', help='Token from the mail; confirms the reset.')
@pass_session
def reset_password(
    session: Session, email: str | None, password_file: str | None, token: str | None
) -> None:
    """Ask for a new password, and confirm it with the token from the mail.

    Files stay readable: they are encrypted with the encryption key, not with the password.
    """
    client = session.make_client(None, None)
    address = _email(session, email) if token is None or email else ''
    late = client.profile().resets_by_post
    # When the new password is sent differs by release: with the request, or with the token.
    password = None
    if late == (token is not None):
        password = _password(session, password_file, address, new=True, kept=False)
    if token is None:
        client.user_reset_password(address, password)
        session.output.done(f'mail sent to {address}', {'email': address, 'sent': True})
    else:
        client.user_reset_password_confirmation(token, password)
        session.output.done("password changed; run 'storj account login'", {'changed': True})


@account.command(
    'delete', examples=('storj account delete', 'storj account delete --token 77aa...')
)
@click.option('--token', help='Token from the mail; confirms the closing.')
@yes_option
@pass_session
def delete(session: Session, token: str | None, yes: bool) -> None:
    """Close the account at the bridge.

    The bridge sends a mail with a token: 'storj account delete --token TOKEN' confirms it.
    """
    if token is not None:
        with session.make_client(None, None) as client:
            client.user_deactivate(token)
        session.output.done('account closed', {'closed': True})
        return
    email = session.settings.email
    if not email:
        raise NotLoggedIn(f'not logged in at {session.settings.bridge}')
    count = len(session.catalog.buckets())
    confirm(f'close the account {email} with {count_of(count, "bucket")}', yes=yes)
    session.client.user_delete(email)
    session.output.done(f'mail sent to {email}', {'email': email, 'sent': True})


@dataclass
class _SharedLogin:
    """The login that libstorj keeps for a bridge, in ``<host>.json`` beside ``storj.ini``.

    Attributes:
        path (Path): of the file.
        passphrase (str): that unlocks it.
        found (bool): whether there is one.
        email, password (str), mnemonic (str | None): what it holds.
    """

    path: Path
    passphrase: str
    found: bool = False
    email: str = ''
    password: str = ''
    mnemonic: str | None = None

    @classmethod
    def open(cls, session: Session) -> _SharedLogin:
        """Unlock the file, if there is one.

        Raises:
            NotLoggedIn: If the passphrase does not fit.
        """
        from storj.crypto import credentials, secret_file

        path = session.key_folder / credentials.file_name(session.settings.bridge)
        exists = path.exists()
        passphrase = session.settings.keypass or ask_secret(
            'Passphrase of the libstorj login', option='STORJ_KEYPASS', twice=not exists
        )
        if not exists:
            return cls(path, passphrase)
        try:
            found = credentials.decode(secret_file.read(path, _FILE_LIMIT), passphrase)
        except DecryptionError as error:
            raise NotLoggedIn(
                f'the passphrase does not open {path}', hint='set STORJ_KEYPASS, or try again'
            ) from error
        return cls(path, passphrase, True, found.email, found.password, found.mnemonic)

    def write(self, email: str, password: str, key: str) -> None:
        """Write the file, readable by its owner only."""
        from storj.crypto import credentials, secret_file

        shared = credentials.Credentials(email, password, key)
        secret_file.write(self.path, credentials.encode(shared, self.passphrase))

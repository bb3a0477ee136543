"""``storj info``: what somebody who helps you will ask for; no secrets."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from typing import Any

from storj.api import BridgeProfile
from storj.cli.command import command
from storj.cli.errors import explain
from storj.cli.session import Session, pass_session
from storj.exception import StorjError
from storj.metadata import __version__
from storj.text import masked

__all__ = ('info',)

_PACKAGES = (
    'requests',
    'ecdsa',
    'pycryptodome',
    'ws4py',
    'mnemonic',
    'click',
    'rich',
    'keyring',
    'aiohttp',
    'SQLAlchemy',
    'coincurve',
)


@command(
    'info', short_help='Show versions, settings and the bridge.', examples=('storj info --json',)
)
@pass_session
def info(session: Session) -> None:
    """Show versions, settings and the bridge, without secrets."""
    settings = session.settings
    record: dict[str, Any] = {
        'storj': __version__,
        'python': platform.python_version(),
        'system': platform.platform(),
        'settings': str(settings.path),
        'profile': settings.profile,
        'bridge': masked(settings.bridge),
        'account': settings.email,
        'words_set': settings.mnemonic is not None,
        **_bridge(session),
        'erasure_backend': _erasure(),
        'executable': sys.executable,
        'packages': {name: _version(name) for name in _PACKAGES},
    }
    if session.output.as_json:
        session.output.document(record)
        return
    packages = record.pop('packages')
    record['packages'] = [f'{name} {version}' for name, version in packages.items() if version]
    session.output.record(record)


def _bridge(session: Session) -> dict[str, Any]:
    """Return what the bridge says of itself; one that cannot be reached is part of the report."""
    try:
        with session.make_client(None, None) as client:
            about = client.info().get('info', {})
    except StorjError as error:
        return {'bridge_state': explain(error).message}
    return {
        'bridge_state': 'reachable',
        'bridge_title': about.get('title'),
        'bridge_release': about.get('version'),
        'javascript_key_scheme': BridgeProfile.from_info(about).javascript_key_scheme,
    }


def _erasure() -> str:
    from storj.erasure import ReedSolomon

    return ReedSolomon(1, 1).backend


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None

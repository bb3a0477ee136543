"""The files of ``deploy`` are what Docker, Compose, Kubernetes and systemd take."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import kubernetes_validate
import pytest
import yaml

from storj.cli.app import app
from tests.cluster.services import DEPLOY, interpolated, program

SETTINGS = dict.fromkeys(
    (
        *('STORJ_HOST', 'STORJ_PUBLIC_URL', 'POSTGRES_PASSWORD', 'S3_SECRET_KEY'),
        *(f'FARMER_{number}_KEY' for number in (5, 6)),
    ),
    'some',
)
RESTRICTED = {
    'allowPrivilegeEscalation': False,
    'readOnlyRootFilesystem': True,
    'capabilities': {'drop': ['ALL']},
}


def succeed(*command: object) -> str:
    """Run a program that must succeed; return its output."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def options_of(name: str) -> list[click.Parameter]:
    command = app.get_command(click.Context(app), name)
    assert command is not None
    return command.params


def manifests() -> Iterator[dict[str, object]]:
    for path in sorted((DEPLOY / 'kubernetes').glob('*.yaml')):
        yield from yaml.safe_load_all(path.read_text())


def test_compose_file_has_the_form_of_the_specification() -> None:
    succeed(
        *(sys.executable, '-m', 'check_jsonschema', '--builtin-schema', 'vendor.compose-spec'),
        DEPLOY / 'compose.yaml',
    )


def test_containers_of_ours_are_restricted() -> None:
    services = yaml.safe_load(interpolated((DEPLOY / 'compose.yaml').read_text(), SETTINGS))[
        'services'
    ]
    ours = [each for each in services.values() if each['image'].startswith('storj:')]
    assert len(ours) == 9
    for service in ours:
        assert service['read_only']
        assert service['cap_drop'] == ['ALL']


def test_dockerfile_has_no_known_mistakes() -> None:
    succeed(Path(sys.executable).with_name('hadolint'), DEPLOY / 'Dockerfile')


def test_image_has_what_the_wheel_is_made_of() -> None:
    words = (DEPLOY / 'Dockerfile.dockerignore').read_text().split()
    for taken in (word[1:] for word in words if word.startswith('!')):
        assert (DEPLOY.parent / taken).exists(), taken


def test_manifests_have_the_form_of_kubernetes() -> None:
    kinds = set()
    for manifest in manifests():
        kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)
        kinds.add(manifest['kind'])
    assert {'Deployment', 'DaemonSet', 'Job', 'Service'} <= kinds


def test_pods_are_restricted() -> None:
    pods = [each for each in manifests() if each['kind'] in ('Deployment', 'DaemonSet', 'Job')]
    for manifest in pods:
        pod = manifest['spec']['template']['spec']  # type: ignore[index]
        assert pod['securityContext']['runAsNonRoot']
        for container in pod['containers']:
            assert container['securityContext'] == RESTRICTED


def test_units_are_what_systemd_takes(tmp_path: Path) -> None:
    for path in (DEPLOY / 'systemd').iterdir():
        # The program need not be installed on this machine, nor its manual page.
        text = path.read_text().replace('/opt/storj/bin/storj', shutil.which('true') or '')
        text = re.sub(r'Documentation=.*\n', '', text)
        (tmp_path / path.name.replace('@', '@disk1')).write_text(text)
    succeed(program('systemd-analyze'), 'verify', *tmp_path.iterdir())


def test_variables_of_the_files_are_options_of_the_bridge() -> None:
    known = {
        str(option.envvar) for option in options_of('bridge') if getattr(option, 'envvar', None)
    }
    for path in DEPLOY.rglob('*'):
        if path.is_file():
            named = set(re.findall(r'\bSTORJ_BRIDGE_\w+', path.read_text()))
            assert named <= known, path


def test_options_of_the_units_exist() -> None:
    (line,) = (
        line
        for line in (DEPLOY / 'systemd' / 'storj-farm@.service').read_text().splitlines()
        if line.startswith('# ') and 'FARM_OPTIONS' in line
    )
    options = {name for option in options_of('farm') for name in option.opts}
    assert set(re.findall(r'--\S+', line)) <= options


def test_settings_have_new_secrets_for_their_owner(tmp_path: Path) -> None:
    made = []
    for name in ('first', 'second'):
        path = tmp_path / name
        with path.open('wb') as file:
            subprocess.run([DEPLOY / 'setup.sh', 'storage.example'], stdout=file, check=True)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        made.append(dict(line.split('=') for line in path.read_text().splitlines()))
    assert set(made[0]) == set(SETTINGS)
    same = {name for name, value in made[0].items() if value == made[1][name]}
    assert same == {'STORJ_HOST', 'STORJ_PUBLIC_URL'}


@pytest.mark.parametrize('arguments', [(), ('a', 'b', 'c')])
def test_settings_need_the_address_of_the_machine(arguments: tuple[str, ...]) -> None:
    done = subprocess.run([DEPLOY / 'setup.sh', *arguments], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (2, b'')
    assert done.stderr.startswith(b'usage: setup.sh HOST')

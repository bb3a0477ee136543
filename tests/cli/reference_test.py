"""No command, option or environment variable without documentation; no help without examples."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from docs import man
from storj.cli.app import ENTRIES, app
from storj.cli.command import Command, Group
from storj.preferences import SETTINGS
from tests.cli.every_command import environment_variables, walk

DOCS = Path(__file__).parents[2] / 'docs'
COMMANDS = dict(walk(app))


def test_every_option_has_help():
    options = [
        (path, param)
        for path, command in COMMANDS.items()
        for param in command.params
        if isinstance(param, click.Option)
    ]
    assert len(options) > 200
    assert [f'{path} {option.opts[0]}' for path, option in options if not option.help] == []


def test_environment_variables_are_documented():
    text = (DOCS / 'configuration.rst').read_text(encoding='utf-8')
    variables = environment_variables(app) | {
        name for setting in SETTINGS.values() for name in setting.variables
    }
    assert 'STORJ_PLAIN_NAMES' in variables
    assert [name for name in sorted(variables) if f'``{name}``' not in text] == []


def settings_table():
    """Return the table of the settings as the page on configuration has it."""

    def words(setting):
        usual = setting.usual or ('none' if setting.default is None else str(setting.default))
        options = f'``{setting.option}``' if setting.option else ''
        variables = ', '.join(f'``{name}``' for name in setting.variables)
        kind = ', '.join(setting.choices) or setting.kind.name
        file = f'``{setting.name}``' if setting.in_file else f'{setting.name} (not in the file)'
        usual = usual.lower() if setting.kind.name == 'true/false' else usual
        return file, variables, options, kind, usual, setting.help

    lines = ['.. list-table::', '   :header-rows: 1', '']
    titles = ('setting', 'environment', 'option', 'type', 'default', 'meaning')
    for row in (titles, *map(words, SETTINGS.values())):
        cells = [f'- {cell}'.rstrip() for cell in row]
        lines += [f'   * {cells[0]}', *(f'     {cell}' for cell in cells[1:])]
    return '\n'.join(lines)


def test_table_of_settings_is_that_of_the_declaration():
    """With STORJ_RENEW=1 the page is written instead."""
    page = DOCS / 'configuration.rst'
    text = page.read_text(encoding='utf-8')
    before, rest = text.split('.. settings begin\n')
    shown, after = rest.split('.. settings end\n')
    if os.environ.get('STORJ_RENEW'):
        parts = (before, '.. settings begin\n\n', settings_table(), '\n\n.. settings end\n', after)
        page.write_text(''.join(parts), encoding='utf-8')
        return
    assert shown.strip() == settings_table()


def test_manual_pages_are_those_of_the_commands():
    kept = {path.name: path.read_text(encoding='utf-8') for path in man.FOLDER.glob('*.1')}
    old = {name for name, text in man.pages().items() if kept.pop(name, None) != text}
    assert old | kept.keys() == set(), "'make man' writes them"


@pytest.mark.skipif(shutil.which('groff') is None, reason='groff is not installed')
def test_manual_pages_have_no_errors_and_can_be_copied_from():
    pages = sorted(man.FOLDER.glob('*.1'))
    done = subprocess.run(
        ['groff', '-man', '-Tutf8', '-ww', '-Kutf8', '-P-c', *pages],
        capture_output=True,
        text=True,
        encoding='utf-8',
        check=True,
    )
    assert done.stderr == ''
    assert "storj cp 'storj://photos/*.jpg' pictures/" in done.stdout
    assert 'storj cp --range 0-99 storj://photos/cat.jpg -' in done.stdout


@pytest.mark.parametrize('setting', SETTINGS.values(), ids=list(SETTINGS))
def test_option_of_a_setting_exists(setting):
    options = {
        name
        for command in COMMANDS.values()
        for param in command.get_params(click.Context(command, **command.context_settings))
        for name in (*param.opts, *param.secondary_opts)
    }
    assert not setting.option or setting.option in options


def test_exit_codes_are_documented():
    from storj.cli.errors import VERDICTS

    text = (DOCS / 'command-line.rst').read_text(encoding='utf-8')
    table = {int(code) for code in re.findall(r'^(\d+)  +\S', text, re.M)}
    assert {verdict.exit_code for verdict in VERDICTS.values()} | {0} == table


def test_command_has_help_and_examples():
    for path, command in COMMANDS.items():
        assert isinstance(command, (Command, Group)), path
        assert command.help, path
        assert command.examples, f'{path} shows no example'
        assert all('storj' in example for example in command.examples), path


def test_summary_of_a_command_is_whole():
    summaries = {path: it.get_short_help_str(limit=78) for path, it in COMMANDS.items()}
    assert {
        path: text
        for path, text in summaries.items()
        if not text.endswith('.') or text.endswith('...')
    } == {}


def resolve(words):
    """Return the command that words call, the words left over, and how it is called."""
    command, path = app, 'storj'
    while words and isinstance(command, click.Group):
        if f'{path} {words[0]}' not in COMMANDS:
            break
        path = f'{path} {words.pop(0)}'
        command = COMMANDS[path]
    return command, words, path


def texts():
    """Yield every command line that a help text, a hint or a page shows, and where."""
    for path, command in COMMANDS.items():
        yield from ((path, re.split('  +#?', example)[0]) for example in command.examples)
        helps = [command.help, *(getattr(param, 'help', None) for param in command.params)]
        for text in filter(None, helps):
            yield from ((path, shown) for shown in re.findall(r"'(storj [^'\n]+)'", text))
    for page in (*DOCS.glob('*.rst'), DOCS.parent / 'README.rst'):
        text = page.read_text(encoding='utf-8')
        for shown in re.findall(r'``(storj [^`]+)``|^ +(?:\$ |   )(storj .+)$', text, re.M):
            # What a shell puts in by itself is another program's.
            line = re.sub(r'\$\([^)]*\)', 'words', ''.join(shown))
            yield page.name, re.split('  +|\\\\$', line)[0]
    for module in (DOCS.parent / 'storj').rglob('*.py'):
        text = module.read_text(encoding='utf-8')
        yield from ((module.name, shown) for shown in re.findall(r"'(storj [a-z][^'\n]*)'", text))


def unknown_options(line):
    """Return what a command line has that its command does not."""
    called = re.search(r'\bstorj +(.*)', line)
    if called is None:
        return ['no command']
    words = [word.strip('()[]"\'$;') for word in called[1].split()]
    command, rest, path = resolve(words)
    if command is app and rest and re.match('[a-z]', rest[0]):
        # The page on migration shows libstorj's.
        return [] if rest[0] in app.elsewhere else [f'no command {rest[0]}']
    context = click.Context(command, info_name=path, **command.context_settings)
    known = {
        name
        for param in command.get_params(context)
        for name in (*param.opts, *param.secondary_opts)
    }
    typed = {word.partition('=')[0] for word in rest if re.match('--.', word)}
    typed |= {f'-{letter}' for word in rest if re.fullmatch('-[a-z]+', word) for letter in word[1:]}
    return [f'{path} has no {option}' for option in sorted(typed - known)]


def test_options_that_are_shown_exist():
    shown = sorted(set(texts()))
    assert len(shown) > 400
    wrong = [(where, line, unknown_options(line)) for where, line in shown]
    assert [found for found in wrong if found[2]] == []


def test_short_help_of_the_table_is_that_of_the_command():
    for entry in ENTRIES:
        assert COMMANDS[f'storj {entry.name}'].get_short_help_str(100) == entry.help


def test_help_has_short_flag_and_examples_first(stranger):
    done = stranger('cp', '-h')
    assert done.out == stranger('cp', '--help').out
    assert done.out.index('Examples:') < done.out.index('Options:')
    assert 'STORJ_JSON' in done.out


def test_help_shows_what_the_command_shows(stranger):
    for words in ((), ('cp',), ('network', 'up')):
        assert stranger('help', *words).out == stranger(*words, '--help').out
    assert "did you mean 'storj cp'" in stranger('help', 'cpp', code=2).err
    assert 'storj cp has no commands' in stranger('help', 'cp', 'x', code=2).err


def test_topics_of_the_help_are_whole(stranger):
    from storj.cli.errors import EXIT_CODES, VERDICTS

    assert {verdict.exit_code for verdict in VERDICTS.values()} <= set(EXIT_CODES)
    shown = stranger('help', 'exit', 'codes').out
    assert all(text in shown for text in EXIT_CODES.values())
    variables = {name for it in SETTINGS.values() for name in it.variables}
    shown = stranger('help', 'environment').out
    assert all(name in shown for name in variables)
    assert 'storj.ini' in stranger('help', 'paths').out


def test_bare_command_shows_its_help(stranger):
    assert 'Usage: storj' in stranger().out
    assert 'Usage: storj network' in stranger('network').out


@pytest.mark.parametrize(
    ('typed', 'meant'),
    [
        (['cpp'], 'storj cp'),
        (['netwrok'], 'storj network'),
        (['network', 'stats'], 'storj network status'),
        (['bucket', 'creat'], 'storj bucket create'),
    ],
)
def test_misspelt_command_is_answered_with_the_nearest(stranger, typed, meant):
    assert f"did you mean '{meant}'" in stranger(*typed, code=2).err


@pytest.mark.parametrize(
    ('typed', 'meant'),
    [
        ('upload', 'storj cp'),
        ('rename', 'storj mv'),
        ('mkdir', 'storj mb'),
    ],
)
def test_command_of_another_program_is_answered_with_ours(stranger, typed, meant):
    done = stranger(typed, 'a', 'b', code=2)
    assert f'no such command: {typed}' in done.err
    assert f"'{meant}'" in done.err
    assert 'did you mean' not in done.err


def test_what_is_called_otherwise_here_is_no_command(stranger):
    for name, hint in app.elsewhere.items():
        assert f'storj {name}' not in COMMANDS
        for meant in re.findall(r"'(storj [a-z ]+[a-z])(?: -[-a-z]+)?'", hint):
            assert meant in COMMANDS


@pytest.mark.parametrize('name', ['storj', 'storj-bucket', 'storj-file', 'storj-key'])
def test_every_program_starts_and_knows_its_version(stranger, name):
    from storj.metadata import __version__

    scripts = configparser.ConfigParser()
    scripts.read(DOCS.parent / 'setup.cfg')
    points = dict(
        re.findall(r'^([\w-]+) = (\S+)$', scripts['options.entry_points']['console_scripts'], re.M)
    )
    assert set(points) == {'storj', 'storj-bucket', 'storj-file', 'storj-key'}
    module, _, function = points[name].partition(':')
    code = f'import sys, {module}; sys.exit({module}.{function}())'
    for arguments, said in (
        (['--version'], f'{name} {__version__}\n'),
        (['-h'], f'Usage: {name} '),
    ):
        done = subprocess.run(
            [sys.executable, '-c', code, *arguments],
            cwd=DOCS.parent,
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.startswith(said)
        assert done.stderr == ''

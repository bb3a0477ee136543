"""Questions at the terminal: what is typed, and what comes while they are shown."""

from __future__ import annotations

import ctypes
import io
import signal
import sys
from functools import partial
from types import SimpleNamespace

import click
import pytest

from storj.catalog.errors import UsageProblem
from storj.cli import prompts

pytestmark = pytest.mark.skipif(sys.platform == 'win32', reason='signals of POSIX')


@pytest.fixture
def typed(monkeypatch):
    """Put lines into the hands of somebody at the terminal."""

    def say(text):
        content = io.BytesIO(text if isinstance(text, bytes) else text.encode())
        monkeypatch.setattr(sys, 'stdin', io.TextIOWrapper(content))
        return sys.stdin

    monkeypatch.setattr(prompts, 'interactive', lambda: True)
    return say


@pytest.mark.parametrize('text', ['y\n', 'yes\n', 'Y\n', ' Yes \n', 'what?\ny\n', 'y'])
def test_yes_goes_on(typed, capsys, text):
    typed(text)
    prompts.confirm('go on', yes=False)
    assert capsys.readouterr().err.startswith('go on? [y/N]: ')


@pytest.mark.parametrize('text', ['\n', 'n\n', 'NO\n', 'what?\n\n'])
def test_everything_else_is_refused(typed, text):
    typed(text)
    with pytest.raises(UsageProblem, match='nothing was done'):
        prompts.confirm('go on', yes=False)


def test_a_text_is_asked_for_until_there_is_one(typed, capsys):
    typed('\n  \n you@example.com \n')
    assert prompts.ask('E-mail', option='--email') == 'you@example.com'
    assert capsys.readouterr().err == 'E-mail: ' * 3


@pytest.mark.parametrize(
    'question', [partial(prompts.confirm, yes=False), partial(prompts.ask, option='--name')]
)
def test_end_of_the_input_is_no_answer(typed, question):
    typed('')
    with pytest.raises(click.Abort):
        question('go on')


class Interrupted(Exception):
    """Ctrl-C was seen."""


@pytest.mark.parametrize(
    'question', [partial(prompts.confirm, yes=False), partial(prompts.ask, option='--name')]
)
def test_ctrl_c_during_a_question_does_not_wait_for_the_line(typed, monkeypatch, question):
    def handle(number, frame):
        raise Interrupted

    # It runs no Python code, so that the handler runs not before the caller lets it.
    write = partial(ctypes.CDLL(None)['raise'], int(signal.SIGINT))
    monkeypatch.setattr(sys, 'stderr', SimpleNamespace(write=write, flush=bool, isatty=bool))
    line = typed('y\n')
    before = signal.signal(signal.SIGINT, handle)
    try:
        with pytest.raises(Interrupted):
            question('go on')
    finally:
        signal.signal(signal.SIGINT, before)
    assert line.read() == 'y\n'


@pytest.mark.parametrize(
    'question', [partial(prompts.confirm, yes=False), partial(prompts.ask, option='--name')]
)
def test_answer_that_is_no_text_is_refused_unquoted(typed, question):
    typed(b'hunter2\xff\n')
    with pytest.raises(UsageProblem, match='not UTF-8 text') as caught:
        question('go on')
    assert caught.value.__cause__ is None
    assert 'hunter2' not in str(caught.value)


def test_question_drives_no_terminal(typed, capsys):
    typed('y\n')
    prompts.confirm('remove \x1b]52;c;AA\x07\u202e', yes=False)
    assert capsys.readouterr().err == r'remove \x1b]52;c;AA\x07\u202e? [y/N]: '


@pytest.mark.parametrize('typed_in', ['p' * 4095, 'ä' * 2047 + 'p'], ids=len)
def test_secret_that_a_terminal_cuts_off_is_refused(typed, monkeypatch, typed_in):
    typed('')
    monkeypatch.setattr(click, 'prompt', lambda *_, **__: typed_in[1:])
    assert prompts.ask_secret('Password', option='--password-file') == typed_in[1:]
    monkeypatch.setattr(click, 'prompt', lambda *_, **__: typed_in)
    with pytest.raises(UsageProblem, match='4094 bytes at most') as caught:
        prompts.ask_secret('Password', option='--password-file')
    assert caught.value.hint == 'use --password-file'


def test_secret_that_is_no_text_is_refused_unquoted(typed, monkeypatch):
    def prompt(*_, **__):
        return b'hunter2\xff'.decode()

    typed('')
    monkeypatch.setattr(click, 'prompt', prompt)
    with pytest.raises(UsageProblem, match='encoding of this system') as caught:
        prompts.ask_secret('Password', option='--password-file')
    assert caught.value.__suppress_context__

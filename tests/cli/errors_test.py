"""Every error has one line, a hint, and the exit code that the documentation promises."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

import click
import pytest

from storj import cli, exception
from storj.cli import errors
from storj.cli.errors import explain, worst

CODES = {
    exception.StorjError('x'): 1,
    exception.ClientError('x'): 1,
    exception.StorjBridgeApiError('x', 400): 1,
    exception.TransferError('x'): 1,
    OSError(28, 'No space left on device', 'a'): 1,
    PermissionError(13, 'Permission denied', 'a'): 1,
    RuntimeError('x'): 1,
    errors.UsageProblem('x'): 2,
    click.UsageError('x'): 2,
    click.Abort(): 2,
    ValueError('x'): 2,
    errors.PartialFailure('x'): 3,
    errors.NotLoggedIn('x'): 4,
    exception.AuthenticationError('x', 401): 4,
    exception.ConfigurationError('x'): 4,
    exception.MnemonicError('x'): 4,
    errors.BucketNotFound('x'): 5,
    errors.FileNotFound('x'): 5,
    errors.LocalPathNotFound('x'): 5,
    exception.NotFoundError('x', 404): 5,
    FileNotFoundError(2, 'No such file or directory', 'a'): 5,
    exception.BridgeUnreachableError('x'): 6,
    exception.BridgeUnavailableError('x', 503): 6,
    exception.FarmerError(message='x'): 6,
    exception.FarmerUnreachableError(message='x'): 6,
    exception.SuppliedTokenNotAcceptedError(): 6,
    exception.IntegrityError('x'): 7,
    exception.DecryptionError('x'): 7,
    exception.HashMismatchError(): 7,
    exception.NotEnoughFarmersError('x', 1, 2): 8,
    exception.NotEnoughShardsError('x', 1, 2): 8,
    exception.AlreadyExistsError('x', 409): 9,
    exception.RateLimitedError('x', 429): 9,
    exception.ResumeMismatchError('x'): 9,
    errors.ConflictError('x'): 9,
    FileExistsError(17, 'File exists', 'a'): 9,
    KeyboardInterrupt(): 130,
    exception.TransferCancelled('x'): 130,
    errors.Terminated(): 143,
}


@pytest.mark.parametrize(('error', 'code'), CODES.items(), ids=lambda it: type(it).__name__)
def test_error_has_its_exit_code(error, code):
    assert explain(error).exit_code == code


@pytest.mark.parametrize('error', CODES, ids=lambda it: type(it).__name__)
def test_message_is_one_line_and_hint_is_advice(error):
    report = explain(error)
    assert report.message
    assert '\n' not in report.message + report.hint
    assert '``' not in report.hint
    assert 'Args:' not in report.hint


def test_bridge_error_shows_its_words_and_status():
    report = explain(exception.bridge_error(404, '{"error": "Bucket not found"}'))
    assert report.lines()[0] == 'storj: Bucket not found (404)'
    assert report.lines()[1].startswith('hint: ')


def test_hint_of_login_names_the_next_command():
    assert "'storj account login'" in explain(errors.NotLoggedIn('not logged in')).hint


def test_unreachable_bridge_points_to_the_local_network():
    assert "'storj network up'" in explain(exception.BridgeUnreachableError('x')).hint


def test_transfer_error_is_explained_by_its_last_cause():
    cause = exception.AuthenticationError('{"error":"no"}', 401, 'no')
    report = explain(exception.TransferError('upload failed', [cause]))
    assert (report.exit_code, report.code, report.libstorj_code) == (4, 401, 1001)
    assert report.message == 'upload failed'


def test_json_error_has_the_promised_fields():
    record = explain(errors.BucketNotFound('no such bucket: a')).to_dict()
    assert record == {
        'type': 'error',
        'error': 'BucketNotFound',
        'message': 'no such bucket: a',
        'exit_code': 5,
        'retryable': False,
        'hint': "list the buckets with 'storj ls', or make one with 'storj mb'",
        'libstorj_code': 1006,
    }


def test_files_that_fail_alike_give_their_code_and_others_three():
    assert worst([7, 7]) == 7
    assert worst([7, 6]) == 3


@pytest.mark.parametrize(
    'arguments',
    [
        ['--json', 'bogus'],
        ['bogus', '--json'],
        ['ls', '--bogus', '--json'],
        ['cp', '--json'],
        ['file', 'bogus', '--json'],
        ['--bogus', '--json'],
    ],
)
def test_arguments_that_cannot_be_read_are_an_error_in_json(stranger, arguments):
    error = stranger(*arguments, code=2).error()
    assert (error['type'], error['exit_code']) == ('error', 2)


def test_arguments_that_cannot_be_read_are_an_error_in_words(stranger):
    assert stranger('ls', '--bogus', code=2).err.startswith("storj: No such option '--bogus'")


@pytest.mark.parametrize(
    ('signalled', 'code', 'word'),
    [(errors.Terminated, 143, 'terminated'), (KeyboardInterrupt, 130, 'interrupted')],
)
def test_signal_before_the_command_is_there_has_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    signalled: type[BaseException],
    code: int,
    word: str,
) -> None:
    def loading(name: str) -> object:
        raise signalled

    monkeypatch.setattr(cli, '__getattr__', loading)
    assert cli.main([]) == code
    assert capsys.readouterr() == ('', f'storj: {word}\n')


def test_interrupt_before_signals_are_handled_has_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Interrupted(MetaPathFinder):
        def find_spec(self, name: str, path: object, target: object = None) -> None:
            if name == 'click':
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, 'click')
    monkeypatch.setattr(sys, 'meta_path', [Interrupted(), *sys.meta_path])
    assert cli.main([]) == 130
    assert capsys.readouterr() == ('', 'storj: interrupted\n')

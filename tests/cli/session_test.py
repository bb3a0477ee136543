"""What options make of the engine's limits, and of what is logged."""

from __future__ import annotations

import logging

import pytest

from storj.catalog.copier import CopyOptions
from storj.cli.session import Session, TransferOptions
from storj.transfer import TransferConfig

USUAL = TransferConfig()


@pytest.fixture
def config(monkeypatch, tmp_path):
    monkeypatch.setenv('STORJ_CONFIG_DIR', str(tmp_path))
    monkeypatch.delenv('STORJ_PUSH_SHARD_LIMIT', raising=False)

    def of(**options):
        with Session() as session:
            return session.transfers(TransferOptions(**options), bridge=object()).config

    return of


@pytest.mark.parametrize(
    ('limits', 'shards'),
    [
        ({}, USUAL.concurrency),
        ({'limit_upload': 100}, 1),
        ({'limit_upload': 1024 * 1024}, 2),
        ({'limit_download': 2 * 1024 * 1024}, 4),
        ({'limit_upload': 1024 * 1024, 'limit_download': 10**9}, 2),
        ({'limit_upload': 10**9}, USUAL.concurrency),
    ],
)
def test_low_limit_is_shared_by_few_shards(config, limits, shards):
    made = config(**limits)
    assert made.concurrency == shards
    assert made.negotiations == min(USUAL.negotiations, shards)


def test_pieces_are_small_enough_for_the_limit(config):
    for limit in (100, 50_000, 1_000_000, 10**9):
        piece = config(limit_download=limit).piece_size
        assert piece == 4096 or piece == USUAL.piece_size or piece * 8 <= limit
        assert piece <= USUAL.piece_size


def test_option_goes_before_environment_and_file(config, monkeypatch, tmp_path):
    (tmp_path / 'storj.ini').write_text('[storj]\nlimit_upload = 1MiB\ntransfers = 2\nretries = 3')
    (tmp_path / 'storj.ini').chmod(0o600)
    assert config().upload_rate == 1024**2
    assert (config().transfers, config().shard_attempts) == (2, 4)
    assert config(limit_upload=0).upload_rate is None
    monkeypatch.setenv('STORJ_LIMIT_UPLOAD', 'off')
    assert config().upload_rate is None
    assert config(transfers=5).transfers == 5


def test_number_that_was_asked_for_stays(config):
    assert config(limit_upload=100, concurrency=7).concurrency == 7


@pytest.mark.parametrize(
    ('limits', 'shards'),
    [
        ({'limit_upload': 512 * 1024}, (1, USUAL.concurrency)),
        ({'limit_download': 512 * 1024}, (USUAL.concurrency, 1)),
        ({'limit_upload': 512 * 1024, 'limit_download': 2 * 1024 * 1024}, (1, 4)),
    ],
)
def test_limit_of_one_way_leaves_the_shards_of_the_other(monkeypatch, tmp_path, limits, shards):
    monkeypatch.setenv('STORJ_CONFIG_DIR', str(tmp_path))
    monkeypatch.setenv('STORJ_BRIDGE_USER', 'somebody@example.com')
    monkeypatch.setenv('STORJ_BRIDGE_PASS', 'secret')
    with Session() as session:
        copier = session.copier(CopyOptions(), TransferOptions(**limits))
        uploads, downloads = copier.uploads.config, copier.downloads.config
    assert (uploads.concurrency, downloads.concurrency) == shards
    assert uploads.upload_rate == limits.get('limit_upload')
    assert downloads.download_rate == limits.get('limit_download')


@pytest.mark.parametrize('verbose', [0, 1])
def test_what_others_say_drives_no_terminal(capsys, verbose):
    with Session() as session:
        session.verbose = verbose
        session.start()
        try:
            raise ValueError('from \x1b[2J afar')
        except ValueError:
            logging.getLogger('storj.test').warning(
                'the farmer says: \x1b]0;gone\x07', exc_info=True
            )
    told = capsys.readouterr().err
    assert '\x1b' not in told
    assert r'the farmer says: \x1b]0;gone\x07' in told
    # The lines of a traceback stay lines, and none of them passes for one of ours.
    assert '\n  ValueError: from \\x1b[2J afar\n' in told


@pytest.mark.parametrize('verbose', [0, 1])
def test_many_failures_of_one_kind_are_told_once(capsys, verbose):
    with Session() as session:
        session.verbose = verbose
        session.start()
        log = logging.getLogger('storj.test')
        for number in range(20):
            log.warning('shard %d: farmer %s failed: %s', number, 'f', 'no connection')
        for name in 'ab':
            log.warning('left out, a link to a folder: %s', name)
    told = capsys.readouterr().err
    assert told.count('failed: no connection') == (20 if verbose else 1)
    assert told.count('left out') == 2
    assert ("19 more messages like these; '-v' shows them" in told) is (not verbose)


def test_log_file_stays_closed_for_a_late_record(tmp_path):
    log = logging.getLogger('storj')
    with Session() as session:
        session.log_file = str(tmp_path / 'log')
        session.start()
        (opened,) = (each for each in log.handlers if isinstance(each, logging.FileHandler))
        log.warning('early')
    # A thread that looks through the handlers may still have this one.
    opened.handle(logging.makeLogRecord({'msg': 'late', 'levelno': logging.WARNING}))
    assert opened.stream is None
    assert 'early' in (tmp_path / 'log').read_text()

"""Messages by SMTP: a small server on the loopback interface takes them, or does not."""

from __future__ import annotations

import asyncio
import base64
import email
import logging
import re
import ssl
from collections.abc import Iterator
from contextlib import suppress
from email.policy import default
from pathlib import Path

import pytest

from storj.network.bridge.mail import Smtp
from storj.network.bridge.state import BridgeSettings
from tests.network.bridges import MAIL_LINK, Account, RunningBridge, eventually
from tests.network.streams import stop_accepting
from tests.s3.certificates import certificate

PASSWORD = 'open: sesame/'
QUOTED = 'open%3A%20sesame%2F'
ALICE = Account('alice@example.org')


class MailServer:
    """A server of SMTP in the bridge's loop; it notes logins and messages."""

    def __init__(self, *, tls: ssl.SSLContext | None, at_once: bool = False) -> None:
        self.tls, self.at_once = tls, at_once
        self.logins: list[bytes] = []
        self.messages: list[str] = []
        self.encrypted: list[bool] = []
        #: What is answered to a command instead.
        self.answers: dict[str, str] = {}
        self.hangs: asyncio.Event | None = None
        self._serving: set[asyncio.Task[None] | None] = set()

    async def start(self) -> None:
        context = self.tls if self.at_once else None
        self._server = await asyncio.start_server(self._serve, '127.0.0.1', 0, ssl=context)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        await stop_accepting(self._server)
        serving = [task for task in self._serving if task is not None]
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        encrypted = self.at_once
        self._serving.add(asyncio.current_task())
        try:
            await self._say(writer, '220 ready')
            while line := await reader.readline():
                command = line.decode().split()[0].upper()
                if command == 'AUTH':
                    self.logins.append(base64.b64decode(line.split()[2]))
                if command in self.answers:
                    await self._say(writer, self.answers[command])
                elif command == 'EHLO':
                    offers = [] if self.tls is None or encrypted else ['250-STARTTLS']
                    await self._say(writer, '250-localhost', *offers, '250 AUTH PLAIN')
                elif command == 'STARTTLS' and self.tls is not None:
                    await self._say(writer, '220 go on')
                    await writer.start_tls(self.tls)
                    encrypted = True
                elif command == 'AUTH':
                    await self._say(writer, '235 welcome')
                elif command == 'DATA':
                    await self._say(writer, '354 go on')
                    data = await reader.readuntil(b'\r\n.\r\n')
                    if self.hangs is not None:
                        await self.hangs.wait()
                    self.messages.append(data[:-3].decode())
                    self.encrypted.append(encrypted)
                    await self._say(writer, '250 taken')
                else:
                    await self._say(writer, '250 good')
                if command == 'QUIT':
                    break
        finally:
            writer.close()
            # The loop must not end before the connection does.
            with suppress(OSError):
                await writer.wait_closed()
            self._serving.discard(asyncio.current_task())

    async def _say(self, writer: asyncio.StreamWriter, *lines: str) -> None:
        writer.write(''.join(f'{line}\r\n' for line in lines).encode())
        await writer.drain()

    def links(self) -> list[str]:
        """Return the paths of the links in the messages, as a mail reader decodes them."""
        plain = (text.replace('\r\n', '\n') for text in self.messages)
        texts = [email.message_from_string(text, policy=default).get_content() for text in plain]
        links = [link for text in texts for link in MAIL_LINK.findall(text)]
        return [link.removeprefix('http://bridge.example:6382') for link in links]


@pytest.fixture(scope='module')
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ssl.SSLContext]:
    """A server's TLS, whose certificate clients of this process trust."""
    folder = tmp_path_factory.mktemp('tls')
    for name, pem in zip(('cert', 'key'), certificate(), strict=True):
        (folder / name).write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / 'cert', folder / 'key')
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('SSL_CERT_FILE', str(folder / 'cert'))
        yield context


@pytest.fixture
def bridge(tmp_path: Path) -> Iterator[RunningBridge]:
    with RunningBridge(tmp_path, activation='mail') as running:
        yield running


def serve(bridge: RunningBridge, server: MailServer, login: str = '') -> None:
    """Have the messages of a bridge go to a server."""
    bridge.call(server.start)
    scheme = 'smtps' if server.at_once else 'smtp'
    url = f'{scheme}://{login}localhost:{server.port}'
    bridge.state.mail.close()
    bridge.state.mail = Smtp(url, 'storj@example.org', 'http://bridge.example:6382')


@pytest.mark.parametrize('at_once', [False, True])
def test_account_is_activated_by_a_mail_over_tls(
    bridge: RunningBridge, contexts: ssl.SSLContext, at_once: bool
) -> None:
    server = MailServer(tls=contexts, at_once=at_once)
    serve(bridge, server, f'bridge:{QUOTED}@')
    bridge.account()
    assert server.encrypted == [True]
    assert server.logins == [f'\0bridge\0{PASSWORD}'.encode()]
    (text,) = server.messages
    assert 'From: storj@example.org\r\nDate: ' in text
    assert max(map(len, text.splitlines())) < 998
    (link,) = server.links()
    assert bridge.request('GET', link).status == 200
    assert bridge.request('GET', '/buckets', by=ALICE).status == 200
    assert not (bridge.path / 'outbox').exists()
    bridge.call(server.stop)


def test_long_link_of_a_reset_arrives_whole(bridge: RunningBridge) -> None:
    server = MailServer(tls=None)
    serve(bridge, server)
    bridge.account()
    bridge.request('GET', server.links()[0])
    body = {'redirect': 'http://bridge.example:6382/' + 'a/' * 900}
    assert bridge.request('PATCH', f'/users/{ALICE.email}', body).status == 200
    eventually(lambda: len(server.messages) == 2)
    assert max(map(len, server.messages[1].splitlines())) < 998
    path, _, redirect = server.links()[1].partition('?redirect=')
    assert re.fullmatch('/resets/[0-9a-f]{512}', path)
    assert redirect == 'http%3A%2F%2Fbridge.example%3A6382%2F' + 'a%2F' * 900
    bridge.call(server.stop)


def test_message_that_is_not_sent_leaves_no_account(
    bridge: RunningBridge, caplog: pytest.LogCaptureFixture
) -> None:
    server = MailServer(tls=None)
    serve(bridge, server, f'bridge:{QUOTED}@')
    body = {'email': ALICE.email, 'password': ALICE.hashed}
    with caplog.at_level(logging.INFO):
        for command, answer, status in (
            ('AUTH', f'535 I do not know {PASSWORD}', 503),
            ('MAIL', '451 later', 503),
            ('RCPT', '450 later', 503),
            ('RCPT', '550 nobody has this address', 400),
        ):
            server.answers = {command: answer}
            refused = bridge.request('POST', '/users', body)
            assert refused.status == status
            assert refused.headers.get('Retry-After') == ('30' if status == 503 else None)
    # No word of the server's, and nothing of the login.
    assert 'SMTPAuthenticationError 535' in caplog.text
    assert 'sesame' not in caplog.text
    assert 'nobody' not in caplog.text
    server.answers = {}
    assert bridge.request('POST', '/users', body).status == 201
    server.answers = {'MAIL': '451 later'}
    assert bridge.request('POST', '/activations', {'email': ALICE.email}).status == 503
    # The link that was sent before still works.
    assert bridge.request('GET', server.links()[0]).status == 200
    # Whether there is an account is not told by what the mail server says, nor by its time.
    asked = [
        bridge.request('PATCH', f'/users/{name}@example.org', {}).status
        for name in ('alice', 'bob')
    ]
    assert asked == [200, 200]
    bridge.call(server.stop)
    assert bridge.request('POST', '/activations', {'email': ALICE.email}).status == 400


def test_answer_to_a_reset_does_not_wait_for_the_server(bridge: RunningBridge) -> None:
    server = MailServer(tls=None)
    serve(bridge, server)
    bridge.account()

    async def hang() -> None:
        server.hangs = asyncio.Event()

    bridge.call(hang)
    assert bridge.request('PATCH', f'/users/{ALICE.email}', {}).status == 200
    assert len(server.messages) == 1
    assert server.hangs is not None
    bridge.set(server.hangs)
    eventually(lambda: len(server.messages) == 2)
    bridge.call(server.stop)


def test_password_is_sent_to_no_other_machine_in_clear(
    bridge: RunningBridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = MailServer(tls=None)
    serve(bridge, server, f'bridge:{QUOTED}@')
    # The loopback interface would do as well as another machine, but for this.
    monkeypatch.setattr('storj.network.bridge.mail.is_loopback', lambda host: False)
    body = {'email': ALICE.email, 'password': ALICE.hashed}
    assert bridge.request('POST', '/users', body).status == 503
    assert server.logins == []
    bridge.call(server.stop)


@pytest.mark.parametrize(
    'url',
    [
        'http://mail.example.org',
        'smtp://',
        'smtp://user@mail.example.org',
        'smtp://user:secret@mail.example.org:99999',
        'smtp://user:secret@mail.example.org/folder',
        'smtps://user:secret@[mail',
        'mail.example.org:25',
    ],
)
def test_mail_servers_that_are_none_are_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(ValueError, match='mail server is given as') as raised:
        BridgeSettings('sqlite://', tmp_path, smtp=url, mail_from='a@b.org')
    assert 'secret' not in str(raised.value)


def test_settings_with_a_mail_server_show_no_password(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='is not an e-mail address'):
        BridgeSettings('sqlite://', tmp_path, smtp='smtp://mail.example.org')
    url = 'postgresql+psycopg://storj:secret@db.example.org/storj'
    settings = BridgeSettings(
        url, tmp_path, smtp='smtp://u:secret@mail.example.org', mail_from='a@b.org'
    )
    mail = settings.new_mail()
    mail.close()
    assert 'secret' not in repr(settings) + repr(mail)
    assert repr(mail) == "Smtp('mail.example.org', 587)"

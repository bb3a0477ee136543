"""The page in a real Chromium: what people see, do and are told, in both themes.

With ``STORJ_SCREENSHOTS=folder`` the states are also drawn into a folder, for the documentation.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

pytest.importorskip('aiohttp')
pytest.importorskip('selenium')
pytest.importorskip('axe_core_python')

import axe_core_python
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from storj.catalog.entries import BucketEntry, FileEntry
from storj.catalog.share import Share, make_share
from storj.http import Client
from storj.metadisk import MetaDisk
from storj.network import Fault, Network
from storj.transfer import TransferConfig

CHROMIUM, DRIVER = shutil.which('chromium'), shutil.which('chromedriver')
if CHROMIUM is None or DRIVER is None:
    pytest.skip('chromium or chromedriver is not installed', allow_module_level=True)

AXE = (Path(axe_core_python.__file__).parent / 'axe.min.js').read_text(encoding='utf-8')
PATIENCE = 30
LIMIT = 3_000_000

DROP = """
const [target, files] = arguments;
const transfer = new DataTransfer();
for (const [name, size, fill] of files) {
  transfer.items.add(new File([new Uint8Array(size).fill(fill)], name));
}
for (const kind of ['dragenter', 'dragover', 'drop']) {
  const options = {dataTransfer: transfer, bubbles: true, cancelable: true};
  target.dispatchEvent(new DragEvent(kind, options));
}
"""

Predicate = Callable[[], Any]


class Page:
    """The page in its browser."""

    def __init__(self, driver: Any, network: Network, downloads: Path) -> None:
        self.driver = driver
        self.network = network
        self.downloads = downloads

    def open(self, fragment: str = '') -> None:
        """Load the page anew, which another fragment alone does not."""
        self.leave()
        self.driver.get(f'{self.network.bridge_url}/{fragment}')
        self.until(lambda: self.text('#node-state') == 'running')

    def forget(self) -> None:
        """Leave, and have the browser forget what the page stored."""
        self.leave()
        self.driver.execute_cdp_cmd(
            'Storage.clearDataForOrigin',
            {'origin': self.network.bridge_url, 'storageTypes': 'local_storage'},
        )
        self.console()

    def leave(self) -> None:
        """Go elsewhere on the node: another origin costs a process of the browser each time."""
        elsewhere = f'{self.network.bridge_url}/page/icon.svg'
        if self.driver.current_url != elsewhere:
            self.driver.get(elsewhere)

    def until(self, predicate: Predicate) -> Any:
        return WebDriverWait(self.driver, PATIENCE, 0.05).until(lambda _: predicate())

    def all(self, selector: str) -> list[Any]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        # Rows are replaced while one looks at them; the browser reads them in one go.
        return self.driver.execute_script(
            'return document.querySelector(arguments[0])?.textContent ?? ""', selector
        )

    def type(self, selector: str, text: str) -> None:
        field = self.one(selector)
        field.clear()
        field.send_keys(text + Keys.ENTER)

    def press(self, label: str, within: str = 'body') -> None:
        for button in self.all(f'{within} button'):
            if button.is_displayed() and button.text.strip() == label:
                self.driver.execute_script('arguments[0].click()', button)
                return
        raise AssertionError(f'no button {label!r}')

    def press_for(self, name: str, label: str) -> None:
        """Press a button of the row of a file."""
        pressed = self.driver.execute_script(
            """
            const [label, name] = arguments;
            const labels = [`${label}: ${name}`, `${label} ${name}`];
            const button = [...document.querySelectorAll('button')]
              .find((each) => labels.includes(each.getAttribute('aria-label')));
            button?.focus();
            button?.click();
            return Boolean(button);
            """,
            label,
            name,
        )
        assert pressed, (label, name)

    def drop(self, *files: tuple[str, int, int]) -> None:
        self.driver.execute_script(DROP, self.one('#drop'), files)

    def upload(self, name: str, size: int = 100, fill: int = 65) -> None:
        self.drop((name, size, fill))
        self.until(lambda: f'{name}' in self.text('#history'))

    def downloaded(self, name: str) -> bytes:
        path = self.downloads / name
        self.until(path.exists)
        content = path.read_bytes()
        path.unlink()
        return content

    def phone(self, width: int = 360) -> None:
        """Make the window that of a small phone, until the end of the test."""
        size = {'width': width, 'height': 740, 'deviceScaleFactor': 1, 'mobile': True}
        self.driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)

    def theme(self, name: str) -> None:
        while self.text('#theme-name') != name:
            self.driver.execute_script('document.getElementById("theme").click()')

    def shoot(self, name: str) -> None:
        """Draw the state for the documentation, if asked for."""
        folder = os.environ.get('STORJ_SCREENSHOTS')
        if folder:
            self.driver.save_screenshot(str(Path(folder) / f'{name}.png'))

    def check(self) -> None:
        """Fail on what the console complains of, or axe-core, in both themes."""
        # Of the other theme only the colours are new.
        for theme, rules in (('Light', {}), ('Dark', {'runOnly': ['color-contrast']})):
            self.theme(theme)
            assert self.violations(rules) == []
        assert self.console() == []
        self.theme('System')

    def violations(self, rules: dict[str, Any]) -> list[str]:
        """Return what axe-core complains of."""
        if not self.driver.execute_script('return "axe" in window'):
            self.driver.execute_script(AXE)
        found = self.driver.execute_async_script(
            """
            const [rules, done] = arguments;
            axe.run(document, {resultTypes: ['violations'], ...rules})
              .then(({violations}) => done(violations));
            """,
            rules,
        )
        return [f'{row["id"]}: {[node["target"] for node in row["nodes"]]}' for row in found]

    def width(self) -> int:
        """Return the pixels that the page would have to be scrolled sideways."""
        return self.driver.execute_script(
            """
            const {scrollWidth, clientWidth} = document.documentElement;
            const broken = [...document.querySelectorAll('.size, .badge, .copy, th, dt, button')]
              .filter((element) => element.getClientRects().length > 1);
            return scrollWidth - clientWidth + 1000 * broken.length;
            """
        )

    def console(self) -> list[str]:
        return [line['message'] for line in self.driver.get_log('browser')]


@pytest.fixture(scope='module')
def network(forked_python: None) -> Iterator[Network]:
    with Network(farmers=3, size=50_000_000, metadisk={'max_file_size': LIMIT}) as network:
        yield network


@pytest.fixture(scope='module')
def browser(network: Network, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    downloads = tmp_path_factory.mktemp('downloads')
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in (
        '--headless=new',
        '--no-sandbox',
        '--disable-gpu',
        '--disable-quic',
        '--disable-dev-shm-usage',
        '--no-first-run',
        '--disable-background-networking',
        '--disable-component-update',
        '--disable-sync',
        # Else axe-core would see colours half way from one theme to the other.
        '--force-prefers-reduced-motion',
        '--window-size=1180,900',
        '--lang=en',
        f'--user-data-dir={tmp_path_factory.mktemp("profile")}',
    ):
        options.add_argument(argument)
    preferences = {
        'download.default_directory': str(downloads),
        'download.prompt_for_download': False,
        'profile.default_content_setting_values.automatic_downloads': 1,
    }
    options.add_experimental_option('prefs', preferences)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL'})
    # It writes settings of its own into the home of whoever runs it.
    home = {'HOME': str(tmp_path_factory.mktemp('home'))}
    kept = {name: value for name, value in os.environ.items() if not name.startswith('XDG_')}
    service = webdriver.ChromeService(DRIVER, env={**kept, **home})
    driver = webdriver.Chrome(options=options, service=service)
    try:
        driver.set_script_timeout(PATIENCE)
        page = Page(driver, network, downloads)
        page.leave()
        # Once, it asks for an icon that no document names, and says that there is none.
        page.until(page.console)
        yield page
    finally:
        driver.quit()


@pytest.fixture
def visitor(browser: Page) -> Iterator[Page]:
    """The browser of somebody who was never here, before the page is loaded."""
    browser.network.faults.clear()
    browser.driver.set_window_size(1180, 900)
    browser.forget()
    yield browser
    browser.driver.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
    browser.network.faults.clear()


@pytest.fixture
def page(visitor: Page) -> Page:
    visitor.open()
    return visitor


@pytest.fixture
def modules(browser: Page) -> Page:
    """The page, maybe as another test left it, for its modules that keep nothing."""
    if not browser.all('#node-state'):
        browser.open()
    return browser


def reference_of(page: Page, name: str) -> str:
    rows = page.driver.execute_script(
        'return import("./page/store.js").then((store) => store.getHistory())'
    )
    (row,) = [row for row in rows if row['name'] == name]
    return f'{row["hash"]}?key={row["key"]}'


def test_programs_get_the_bridge_and_browsers_the_page(network: Network) -> None:
    answer = requests.get(network.bridge_url, timeout=10)
    assert answer.json()['info']['title'] == 'Storj Bridge'
    html = requests.get(network.bridge_url, headers={'Accept': 'text/html,*/*'}, timeout=10)
    assert html.headers['Content-Type'] == 'text/html; charset=utf-8'
    policy = html.headers['Content-Security-Policy']
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'")
    assert 'unsafe' not in policy
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    assert html.headers['X-Content-Type-Options'] == 'nosniff'
    assert html.headers['Cross-Origin-Resource-Policy'] == 'same-origin'
    for part in ('index.html', 'nothing.js', '..%2fapp.py', '%2e%2e/app.py'):
        assert requests.get(f'{network.bridge_url}/page/{part}', timeout=10).status_code == 404
    script = requests.get(f'{network.bridge_url}/page/main.js', timeout=10)
    assert script.headers['Content-Type'] == 'text/javascript; charset=utf-8'
    folder = Path(__file__).parents[2] / 'storj' / 'network' / 'page'
    for file in folder.iterdir():
        # Nothing from elsewhere; the name space of SVG is no address.
        text = file.read_text(encoding='utf-8').replace('http://www.w3.org/2000/svg', '')
        assert 'http://' not in text
        assert 'style=' not in text


def test_first_visit_is_quiet_and_stores_nothing(page: Page) -> None:
    assert '2.9 MiB' in page.text('#upload-limit')
    # What a node that does not charge has no use for.
    for text in ('Balance', 'Token', 'Promotional'):
        assert text not in page.one('body').text
    assert page.one('#history-empty').is_displayed()
    assert page.driver.execute_script('return localStorage.length') == 0
    page.shoot('files-empty')
    page.check()


def test_dropped_files_are_stored_and_come_back_equal(page: Page) -> None:
    page.drop(('holiday photo.jpg', 2_000_000, 7), ('notes.txt', 12, 65), ('empty', 0, 0))
    page.until(lambda: page.text('#uploads-summary') == '3 of 3 files stored')
    # Whoever leaves now would lose the only keys.
    leaves = 'return dispatchEvent(new Event("beforeunload", {cancelable: true}))'
    assert page.driver.execute_script(leaves) is False
    # Each stands in one list.
    assert page.all('#uploads .row') == []
    assert page.text('main').count('notes.txt') == 1
    page.shoot('files-uploaded')
    names = [element.text for element in page.all('#history .name')]
    assert sorted(names) == ['empty', 'holiday photo.jpg', 'notes.txt']
    for name, content in (
        ('holiday photo.jpg', b'\x07' * 2_000_000),
        ('notes.txt', b'A' * 12),
        ('empty', b''),
    ):
        with MetaDisk(page.network.bridge_url) as node:
            output = io.BytesIO()
            node.download(reference_of(page, name), output)
        assert output.getvalue() == content
        page.press_for(name, 'Download')
        assert page.downloaded(name) == content
    page.until(lambda: page.text('#history').count('Checked and decrypted') == 3)
    page.one('#keep').click()
    assert page.driver.execute_script(leaves) is True
    assert page.console() == []


def test_names_are_text_and_nothing_else(page: Page) -> None:
    names = (
        '<img src=x onerror="hacked=1">.txt',
        '\u202egpj.exe',
        '\U0001f600.png',
        'it\'s & "so"',
    )
    page.drop(*((name, 10 + number, 70) for number, name in enumerate(names)))
    page.until(lambda: page.text('#uploads-summary') == '4 of 4 files stored')
    shown = {element.get_property('textContent') for element in page.all('#history .name')}
    assert shown == set(names)
    page.press_for(names[0], 'Shards')
    page.until(lambda: page.text('#details-health') == '1 of 1 shard healthy')
    assert page.text('#details-title') == names[0]
    assert page.driver.execute_script('return window.hacked') is None
    assert page.all('main img') == []
    # Nor could a mistake make it markup: the browser refuses.
    refused = page.driver.execute_script(
        'try { document.body.innerHTML = "<b>"; return "taken"; } catch (e) { return e.name; }'
    )
    assert refused == 'TypeError'
    page.console()


def test_failures_are_told_for_each_file(page: Page) -> None:
    page.drop(('too large.iso', LIMIT + 1, 1), ('fits.txt', 10, 2))
    page.until(lambda: page.text('#uploads-summary') == '1 of 2 files stored, 1 failed')
    assert 'Larger than' in page.text('#uploads [data-state="failed"]')
    page.network.faults.add(Fault('status', route='PUT /frames', times=0))
    page.drop(('unlucky.txt', 10, 3))
    page.until(lambda: 'Too few farmers accepted' in page.text('#uploads li:last-child'))
    page.shoot('files-failed')
    page.console()
    page.check()
    page.network.faults.clear()
    page.press('Retry', '#uploads')
    page.until(lambda: 'unlucky.txt' in page.text('#history'))
    # More than once, for a browser asks again when a connection it kept open is reset.
    page.network.faults.add(Fault('refuse', route='POST /api/upload', times=0))
    page.drop(('cut.txt', 10, 4))
    page.until(lambda: 'was lost' in page.text('#uploads li:last-child'))
    page.until(lambda: page.text('#uploads-summary') == '2 of 4 files stored, 2 failed')
    assert len(page.all('#uploads .row')) == 2
    while page.all('#uploads .row'):
        page.press('Dismiss', '#uploads')
    assert not page.one('#uploads').is_displayed()
    page.console()


def test_upload_can_be_cancelled(page: Page) -> None:
    page.network.faults.add(Fault('delay', route='POST /api/upload', seconds=20, times=0))
    page.drop(*((f'{number}.txt', 10, number) for number in range(4)))
    page.until(lambda: len(page.all('#uploads [data-state="running"]')) == 3)
    assert len(page.all('#uploads [data-state="waiting"]')) == 1
    page.shoot('files-uploading')
    for _ in range(4):
        page.press('Cancel', '#uploads')
    page.until(lambda: page.text('#uploads').count('Cancelled.') == 4)
    page.console()


def test_share_link_is_decrypted_here_and_its_key_never_sent(visitor: Page) -> None:
    plain = b'shared with a friend\n'
    with MetaDisk(visitor.network.bridge_url) as node:
        reference = node.upload(plain, name='for you.txt')
    visitor.driver.execute_cdp_cmd('Network.enable', {})
    visitor.open(f'#{reference}')
    visitor.until(lambda: 'for_you.txt' in visitor.text('#shared'))
    visitor.shoot('files-shared')
    visitor.check()
    key = reference.partition('=')[2]
    # The address still has the file, with its key behind the #, when the page is loaded again.
    visitor.driver.refresh()
    visitor.until(lambda: 'for_you.txt' in visitor.text('#shared'))
    visitor.press('Download', '#shared')
    assert visitor.downloaded('for_you.txt') == plain
    asked = visitor.driver.execute_script(
        'return performance.getEntriesByType("resource").map((entry) => entry.name)'
    )
    assert any('/api/download/' in address for address in asked)
    assert not any(key in address for address in asked)
    visitor.press('Add to your files', '#shared')
    assert 'for_you.txt' in visitor.text('#history')
    assert not visitor.one('#shared').is_displayed()


@pytest.mark.parametrize(
    ('change', 'told'),
    [
        (lambda hash_, key: (hash_, 'ab' * 32), 'The key is not the key of this file.'),
        (lambda hash_, key: ('0' * 64, key), 'The node does not have this file.'),
    ],
)
def test_wrong_links_are_told(visitor: Page, change: Callable[..., Any], told: str) -> None:
    with MetaDisk(visitor.network.bridge_url) as node:
        hash_, _, key = node.upload(b'some file').partition('?key=')
    hash_, key = change(hash_, key)
    visitor.open(f'#{hash_}?key={key}')
    if 'key' in told:
        visitor.until(lambda: 'file' in visitor.text('#shared .name'))
        visitor.press('Download', '#shared')
    visitor.until(lambda: told in visitor.text('#shared'))
    visitor.console()


def test_files_of_the_other_counter_and_changed_bytes_are_recognised(modules: Page) -> None:
    vectors = json.loads(
        (Path(__file__).parent.parent / 'vectors' / 'metadisk.json').read_text(encoding='utf-8')
    )
    (vector,) = [row for row in vectors['vectors'] if row['name'] == 'tutorial']
    opened = """
        const [hash, key, sealed, size, done] = arguments;
        const pieces = [];
        const sink = {begin: () => pieces.splice(0), write: (piece) => pieces.push(...piece)};
        const parts = async function* () {
          for (const byte of sealed) yield Uint8Array.of(byte);
        };
        import('./page/convergent.js')
          .then(({open}) => open(parts, {hash, key, size}, sink))
          .then(() => done(pieces), (error) => done(error.message));
    """
    for counter in ('counter0', 'counter1'):
        sealed = list(bytes.fromhex(vector[counter]['ciphertext_hex']))
        arguments = (vector[counter]['filehash'], vector['key'])
        plain = modules.driver.execute_async_script(opened, *arguments, sealed, 10)
        assert bytes(plain) == b'test data\n'
        for size, changed in (
            (10, [sealed[0] ^ 1, *sealed[1:]]),
            (10, sealed[:-1]),
            (10, [*sealed, 0] * 10),
            (11, sealed),
        ):
            told = modules.driver.execute_async_script(opened, *arguments, changed, size)
            assert told == 'The received bytes are not those of this file.'


def vectors(group: str) -> list[dict[str, Any]]:
    """Return what libstorj computes, of the vectors that a browser can be asked for."""
    path = Path(__file__).parent.parent / 'vectors' / 'libstorj.json'
    rows = json.loads(path.read_text(encoding='utf-8'))['groups'][group]['vectors']
    return [row for row in rows if row.get('ok', True)]


def test_keys_and_names_are_those_of_libstorj(modules: Page) -> None:
    computed = """
        const [given, done] = arguments;
        const run = async () => {
          const keys = await import('./page/keys.js');
          const {hex, fromHex} = await import('./page/ctr.js');
          const {ripemd160} = await import('./page/ripemd160.js');
          const {Sha256} = await import('./page/sha256.js');
          const seeds = new Map();
          for (const {mnemonic} of Object.values(given).flat()) {
            if (mnemonic) seeds.set(mnemonic, await keys.seedOf(mnemonic));
          }
          const all = (rows, compute) => Promise.all(rows.map(compute));
          const bucket = (row) => keys.bucketKey(seeds.get(row.mnemonic), row.bucket_id);
          const content = async (row) => {
            const {key, counter} = await keys.contentKey(
              await bucket(row), {index: row.index, id: row.file_id});
            return [hex(key), hex(counter)];
          };
          const digest = (data) => {
            const whole = new Sha256();
            whole.update(fromHex(data));
            return hex(ripemd160(fromHex(whole.hex())));
          };
          done({
            bucket_key: await all(given.bucket_key, async (row) => hex(await bucket(row))),
            file_key: await all(given.file_key, content),
            file_key_without_index: await all(given.file_key_without_index, content),
            bucket_name: await all(given.bucket_name, async (row) => keys.decryptName(
              await keys.bucketNameKey(seeds.get(row.mnemonic)), row.encrypted)),
            file_name: await all(given.file_name, async (row) => keys.decryptName(
              await keys.nameKey(await bucket(row)), row.encrypted)),
            file_hmac: await all(given.file_hmac, async (row) =>
              keys.fileHmac(fromHex(row.file_key), row.shard_hashes)),
            shard_hash: given.shard_hash.map((row) => digest(row.data)),
            wrong: await keys.decryptName(
              await keys.bucketNameKey(new Uint8Array(64)), given.bucket_name[0].encrypted),
          });
        };
        run().catch((error) => done(String(error)));
    """
    names = ('bucket_key', 'file_key', 'file_key_without_index', 'bucket_name', 'file_name')
    given = {name: vectors(name) for name in (*names, 'file_hmac', 'shard_hash')}
    # NFKD, as BIP39 has it; libstorj takes the bytes as they are.
    for name in names:
        given[name] = [
            row
            for row in given[name]
            if row['mnemonic'].isascii() and len(row.get('bucket_id', 24 * '0')) == 24
        ]
    found = modules.driver.execute_async_script(computed, given)
    assert found == {
        'bucket_key': [row['bucket_key'] for row in given['bucket_key']],
        'file_key': [[row['file_key'], row['ctr']] for row in given['file_key']],
        'file_key_without_index': [
            [row['aes_key'], row['ctr']] for row in given['file_key_without_index']
        ],
        'bucket_name': [
            bytes.fromhex(row['name']).decode('utf-8', 'replace') for row in given['bucket_name']
        ],
        'file_name': [
            bytes.fromhex(row['name']).decode('utf-8', 'replace') for row in given['file_name']
        ],
        'file_hmac': [row['hmac'] for row in given['file_hmac']],
        'shard_hash': [row['hash'] for row in given['shard_hash']],
        'wrong': None,
    }


def test_hash_of_pieces_is_that_of_the_whole(modules: Page) -> None:
    compared = """
        const done = arguments[0];
        const hex = (buffer) => Array.from(new Uint8Array(buffer),
          (byte) => byte.toString(16).padStart(2, '0')).join('');
        const compare = async () => {
          const {Sha256} = await import('./page/sha256.js');
          const data = Uint8Array.from({length: 400}, (_, index) => index * 7 % 251);
          for (let size = 0; size <= data.length; size += 1) {
            const whole = data.subarray(0, size);
            const hash = new Sha256();
            for (let at = 0, step = 1; at < size; at += step, step = step * 5 % 131) {
              hash.update(whole.subarray(at, at + step));
            }
            if (hash.hex() !== hex(await crypto.subtle.digest('SHA-256', whole))) return size;
          }
          return 'equal';
        };
        compare().then(done);
    """
    assert modules.driver.execute_async_script(compared) == 'equal'


# A file of the browser's own store stands for the one that a person would choose on the disk.
PICKER = """
const [limits, before, done] = arguments;
const store = async () => {
  const root = await navigator.storage.getDirectory();
  const handle = await root.getFileHandle('chosen', {create: true});
  const writer = await handle.createWritable();
  await writer.write(before);
  await writer.close();
  window.showSaveFilePicker = async ({suggestedName}) => {
    window.suggested = suggestedName;
    return handle;
  };
  Object.assign((await import('./page/downloads.js')).limits, limits);
};
store().then(done);
"""
# What the first download brings breaks off or stands still after so many bytes.
CUT = """
const [limit, how] = arguments;
const real = window.fetch;
window.asked = [];
window.fetch = async (address, options) => {
  const response = await real(address, options);
  if (!address.includes('/api/download/')) return response;
  asked.push(options.headers.Range ?? null);
  if (asked.length > 1) return response;
  let left = limit;
  const cut = new TransformStream({
    transform(piece, controller) {
      controller.enqueue(piece.subarray(0, left));
      left -= Math.min(left, piece.length);
      if (left) return null;
      if (how === 'error') throw new TypeError('network error');
      return new Promise((_, reject) => options.signal.addEventListener('abort', reject));
    },
  });
  return new Response(response.body.pipeThrough(cut), response);
};
"""
CHOSEN = """
const done = arguments[0];
const read = async () => {
  const root = await navigator.storage.getDirectory();
  const file = await (await root.getFileHandle('chosen')).getFile();
  return Array.from(new Uint8Array(await file.arrayBuffer()));
};
read().then(done, (error) => done(error.name));
"""


def test_large_files_are_written_to_the_disk_as_they_come(page: Page) -> None:
    page.upload('film.mkv', 2_500_000, 5)
    page.driver.execute_async_script(PICKER, {'small': 1000}, 'what was there before')
    # A connection that breaks is taken up where it broke.
    page.driver.execute_script(CUT, 1_200_000, 'error')
    page.press('Download', '#history')
    page.until(lambda: 'Checked, decrypted and saved' in page.text('#history'))
    assert page.driver.execute_script('return suggested') == 'film.mkv'
    chosen = page.driver.execute_async_script(CHOSEN)
    assert len(chosen) == 2_500_000
    assert set(chosen) == {5}
    assert page.driver.execute_script('return asked') == [None, 'bytes=1200000-']
    assert page.console() == []


@pytest.mark.parametrize(('before', 'kept'), [('of mine', list(b'of mine')), ('', 'NotFoundError')])
def test_what_is_not_the_file_never_gets_its_name(visitor: Page, before: str, kept: object) -> None:
    with MetaDisk(visitor.network.bridge_url) as node:
        hash_ = node.upload(b'some file').partition('?')[0]
    visitor.open(f'#{hash_}?key={"ab" * 32}')
    visitor.until(lambda: 'file' in visitor.text('#shared .name'))
    visitor.driver.execute_async_script(PICKER, {'small': 0}, before)
    visitor.press('Download', '#shared')
    visitor.until(lambda: 'The key is not the key of this file.' in visitor.text('#shared'))
    assert visitor.driver.execute_async_script(CHOSEN) == kept
    assert visitor.console() == []


def test_download_can_be_cancelled_and_its_dialog_closed(page: Page) -> None:
    page.upload('film.mkv', 2_500_000, 5)
    page.driver.execute_async_script(PICKER, {'small': 1000}, '')
    page.driver.execute_script(CUT, 1_200_000, 'stall')
    page.press('Download', '#history')
    page.until(lambda: '1.1 MiB of 2.4 MiB' in page.text('#history .state [aria-hidden]'))
    # A list that changes leaves the download alone.
    page.upload('another.txt')
    page.shoot('files-downloading')
    page.check()
    page.press('Cancel', '#history')
    page.until(lambda: 'Cancelled.' in page.text('#history'))
    assert page.driver.execute_async_script(CHOSEN) == 'NotFoundError'
    page.driver.execute_script(
        'showSaveFilePicker = async () => { throw new DOMException("no", "AbortError"); }'
    )
    button = page.one('#history button[aria-label="Download film.mkv"]')
    page.driver.execute_script('arguments[0].click()', button)
    page.until(lambda: 'Cancelled.' not in page.text('#history'))
    assert button.text == 'Download'
    assert page.console() == []


def test_browser_that_cannot_write_says_what_can(page: Page) -> None:
    page.upload('film.mkv', 2_500_000, 5)
    page.driver.execute_async_script(PICKER, {'small': 1000, 'largest': 2000}, '')
    page.driver.execute_script('showSaveFilePicker = undefined')
    page.press('Download', '#history')
    page.until(lambda: 'the command storj' in page.text('#history'))


def test_references_are_added_and_removed_by_hand(page: Page) -> None:
    with MetaDisk(page.network.bridge_url) as node:
        reference = node.upload(b'added by hand', name='by hand.txt')
    page.type('#add-reference', 'something else')
    page.until(lambda: 'neither a link' in page.text('#add-error'))
    assert page.one('#add-reference').get_attribute('aria-invalid') == 'true'
    page.type('#add-reference', '0' * 64 + '?key=' + '0' * 64)
    page.until(lambda: 'does not have this file' in page.text('#add-error'))
    page.console()
    for text in (reference, f'http://elsewhere/api/download/{reference}&token=x'):
        page.type('#add-reference', text)
        page.until(lambda: page.text('#history .name') == 'by_hand.txt')
    assert len(page.all('#history .row')) == 1
    assert page.text('#add-error') == ''
    # Its key is stored only where the person says so.
    assert page.driver.execute_script('return localStorage.length') == 0
    page.one('#keep').click()
    assert 'whoever uses it can open them' in page.text('#keep-note')
    page.open()
    assert page.text('#history .name') == 'by_hand.txt'
    page.one('#keep').click()
    assert secrets_stored(page) == []
    assert len(page.all('#history .row')) == 1
    page.press('Remove', '#history')
    assert page.one('#history-empty').is_displayed()
    page.open()
    assert page.all('#history .row') == []


def test_many_files_come_in_pages(page: Page) -> None:
    page.driver.execute_script(
        """
        const file = (_, number) => ({
          name: `file ${number}`, size: 1,
          hash: String(number).padStart(64, '0'), key: 'a'.repeat(64),
        });
        localStorage.setItem('metadisk-history', JSON.stringify(Array.from({length: 23}, file)));
        """
    )
    page.open()
    assert len(page.all('#history .row')) == 10
    page.press('3', '#pages')
    assert [element.text for element in page.all('#history .name')] == [
        'file 20',
        'file 21',
        'file 22',
    ]
    page.check()
    # What is broken in the browser's memory breaks nothing else.
    page.driver.execute_script("localStorage.setItem('metadisk-history', '[{\"hash\": 1}, null')")
    page.open()
    assert page.one('#history-empty').is_displayed()


def test_node_that_charges_shows_balance_and_token(browser: Page) -> None:
    with Network(farmers=0, charge=True) as network:
        page = Page(browser.driver, network, browser.downloads)
        page.open()
        page.until(lambda: page.text('#balance') == '0 B')
        page.driver.execute_script(
            'document.querySelectorAll("details").forEach((each) => each.open = true)'
        )
        page.until(lambda: '$5.00' in page.text('#prices'))
        page.type('#promocode', 'NONE')
        page.until(lambda: 'does not exist' in page.text('#redeem-error'))
        page.console()
        page.type('#promocode', 'PLEASE')
        page.until(lambda: page.text('#balance') == '1 GiB')
        page.shoot('account')
        page.check()
        first = page.one('#token').get_attribute('value')
        page.press('New token', '#token-form')
        page.until(lambda: page.text('#balance') == '0 B')
        assert page.one('#token').get_attribute('value') != first
        page.type('#token', first)
        page.until(lambda: page.text('#balance') == '1 GiB')


WORDS = 'abandon ' * 11 + 'about'
FILES = {
    'summer/2026/café größe.jpg': b'\x07' * 3000,
    'summer/2026/img10.png': b'10',
    'summer/2026/img9.png': b'9',
    'summer/notes.txt': b'notes',
    '<img src=x>.html': b'<script>hacked = 1</script>',
    'large.bin': bytes(range(256)) * 400,
}


@pytest.fixture(scope='module')
def account(network: Network) -> Client:
    """Store files in a bucket of the network's account, encrypted; the last one in shards."""
    config = TransferConfig(shard_size=16384)
    client = Client(
        network.email,
        network.password,
        network.bridge_url,
        mnemonic=WORDS,
        transfer_config=config,
    )
    bucket = client.bucket_create('holidays')
    client.bucket_create('empty one')
    for name, content in FILES.items():
        client.file_upload(bucket.id, content, name=name, parity=False)
    return client


def sign_in(page: Page, *, words: str = WORDS) -> None:
    page.driver.execute_script('location.hash = "#buckets"')
    page.until(page.one('#sign-in').is_displayed)
    page.one('#email').send_keys(page.network.email)
    page.type('#password', page.network.password)
    page.until(page.one('#key').is_displayed)
    if words:
        page.type('#key', words)
        page.until(lambda: 'holidays' in page.text('#rows') or page.text('#key-error'))


def names(page: Page) -> list[str]:
    return page.driver.execute_script(
        'return [...document.querySelectorAll("#rows .name")].map((each) => each.textContent)'
    )


def is_hidden(page: Page) -> bool:
    found = names(page)
    return len(found) == 2 and all(name.startswith('Encrypted name ') for name in found)


def open_row(page: Page, name: str) -> None:
    (row,) = [row for row in page.all('#rows .link') if row.text == name]
    row.click()


def secrets_stored(page: Page) -> list[str]:
    return page.driver.execute_script(
        'return Object.keys(localStorage).filter((name) => name !== "metadisk-theme")'
    )


def test_names_appear_once_the_encryption_key_is_there(page: Page, account: Client) -> None:
    page.driver.execute_script('location.hash = "#buckets"')
    page.until(page.one('#sign-in').is_displayed)
    page.shoot('sign-in')
    page.check()
    page.type('#email', page.network.email)
    assert 'both' in page.text('#sign-in-error')
    page.type('#password', 'wrong')
    page.until(lambda: 'does not know' in page.text('#sign-in-error'))
    page.console()
    page.one('#password').clear()
    page.type('#password', page.network.password)
    page.until(lambda: is_hidden(page))
    page.shoot('buckets-locked')
    page.check()
    page.type('#key', 'legal ' * 11 + 'winner')
    page.until(lambda: 'opens none' in page.text('#key-error'))
    # As it may have been copied.
    page.type('#key', f'  {WORDS.replace(" ", "  ")} ')
    page.until(lambda: names(page) == ['empty one', 'holidays'])
    assert page.driver.switch_to.active_element.get_attribute('id') == 'search'
    page.shoot('buckets')
    assert secrets_stored(page) == []
    page.press('Sign out')
    assert page.one('#sign-in').is_displayed()
    assert names(page) == []


def test_files_are_in_folders_sorted_and_searched(page: Page, account: Client) -> None:
    sign_in(page)
    open_row(page, 'holidays')
    page.until(lambda: names(page) == ['summer', '<img src=x>.html', 'large.bin'])
    assert page.text('#browse-count') == '6 files, 103 KiB'
    open_row(page, 'summer')
    open_row(page, '2026')
    pictures = ['café größe.jpg', 'img9.png', 'img10.png']
    assert names(page) == pictures
    assert [step.text for step in page.all('#crumbs li')] == [
        'Buckets',
        'holidays',
        'summer',
        '2026',
    ]
    page.shoot('bucket')
    page.check()
    page.press('Size', '#list')
    assert names(page) == ['café größe.jpg', 'img10.png', 'img9.png']
    page.press('Size', '#list')
    assert page.one('[data-column="size"]').get_attribute('aria-sort') == 'ascending'
    page.press('Name', '#list')
    page.driver.back()
    page.until(lambda: names(page) == ['2026', 'notes.txt'])
    page.press('holidays', '#crumbs')
    page.until(lambda: 'large.bin' in names(page))
    page.one('#search').send_keys('IMG 2026')
    assert names(page) == ['summer/2026/img9.png', 'summer/2026/img10.png']
    page.one('#search').send_keys('x')
    assert 'No file matches' in page.text('#browse-note')
    page.one('#search').clear()
    page.one('#search').send_keys('cafe')
    assert names(page) == ['summer/2026/café größe.jpg']
    page.press('Buckets', '#crumbs')
    assert page.one('#search').get_property('value') == ''
    open_row(page, 'empty one')
    page.until(lambda: 'Nothing here yet' in page.text('#browse-note'))
    assert page.driver.execute_script('return window.hacked') is None
    assert page.console() == []


def test_file_of_a_bucket_is_decrypted_here(page: Page, account: Client) -> None:
    page.driver.execute_cdp_cmd('Network.enable', {})
    sign_in(page)
    page.phone()
    open_row(page, 'holidays')
    page.until(lambda: 'large.bin' in names(page))
    assert page.width() == 0
    page.check()
    page.shoot('bucket-phone')
    # A farmer that fails, and one that sends other bytes, are replaced.
    page.network.faults.add(Fault('drop', operation='pull'))
    page.network.faults.add(Fault('corrupt', operation='pull', nth=3))
    page.press_for('large.bin', 'Download')
    assert page.downloaded('large.bin') == FILES['large.bin']
    page.press_for('<img src=x>.html', 'Download')
    assert page.downloaded('_img src=x_.html') == FILES['<img src=x>.html']
    page.press_for('large.bin', 'Shards')
    page.until(lambda: page.text('#details-health') == '7 of 7 shards healthy')
    assert page.width() == 0
    page.console()


def test_link_of_a_bucket_file_opens_without_a_login(visitor: Page, account: Client) -> None:
    (bucket,) = [each for each in account.bucket_list() if each.name == 'holidays']
    (file,) = [
        row for row in account.bucket_files(bucket.id) if row['size'] == len(FILES['large.bin'])
    ]
    entry = FileEntry(
        file['id'], BucketEntry(bucket.id, '', ''), 'large.bin', 'large.bin', file['size']
    )
    link = make_share(account, entry, with_key=True).link()
    visitor.open(f'#{link}')
    visitor.until(lambda: 'large.bin' in visitor.text('#shared'))
    visitor.press('Download', '#shared')
    assert visitor.downloaded('large.bin') == FILES['large.bin']
    visitor.press_for('large.bin', 'Download')
    assert visitor.downloaded('large.bin') == FILES['large.bin']
    for other, told in (
        (link[:-20], 'damaged'),
        (make_share(account, entry).link(), 'no key'),
        (dataclasses.replace(Share.read(link), tokens=('ab' * 20,)).link(), None),
    ):
        visitor.driver.execute_script('location.hash = arguments[0]', other)
        if told is None:
            visitor.until(lambda: 'large.bin' in visitor.text('#shared'))
            visitor.press('Download', '#shared')
        visitor.until(lambda told=told: (told or 'used up') in visitor.text('#shared'))
    visitor.console()


def test_login_and_key_are_stored_where_asked_for(page: Page, account: Client) -> None:
    sign_in(page, words='')
    page.one('#key-keep').click()
    page.type('#key', WORDS)
    page.until(lambda: 'holidays' in page.text('#rows'))
    page.open('#buckets')
    assert page.one('#sign-in').is_displayed()
    page.one('#stay').click()
    page.one('#email').send_keys(page.network.email)
    page.type('#password', page.network.password)
    page.until(lambda: is_hidden(page))
    page.one('#key-keep').click()
    page.type('#key', WORDS)
    page.until(lambda: 'holidays' in page.text('#rows'))
    page.open('#buckets')
    page.until(lambda: names(page) == ['empty one', 'holidays'])
    assert page.network.password not in page.driver.execute_script(
        'return JSON.stringify(localStorage)'
    )
    page.press('Forget key')
    page.until(lambda: is_hidden(page))
    page.press('Sign out')
    assert secrets_stored(page) == []


def test_network_shows_its_farmers(visitor: Page) -> None:
    visitor.open('#network')
    visitor.until(lambda: len(visitor.all('#farmers .farmer')) == 3)
    assert '3 of 3 farmers online' in visitor.text('#farmers-count')
    assert '47.7 MiB used' in visitor.text('#farmers')
    visitor.shoot('network')


def test_shards_of_a_file_are_shown_over_the_list(page: Page) -> None:
    page.upload('where am I.txt', 100, 9)
    page.press_for('where am I.txt', 'Shards')
    page.until(lambda: page.text('#details-health') == '1 of 1 shard healthy')
    assert page.text('#details-title') == 'where am I.txt'
    page.shoot('shards')
    # It follows what changes.
    page.driver.execute_script(
        """
        const real = window.fetch;
        window.fetch = async (address, options) => {
          const response = await real(address, options);
          return address.includes('/api/find/')
            ? Response.json({...await response.json(), uploads: []}) : response;
        };
        """
    )
    page.until(lambda: page.text('#details-health') == '0 of 1 shard healthy')
    ActionChains(page.driver).send_keys(Keys.ESCAPE).perform()
    assert not page.one('#details').is_displayed()
    focused = page.driver.switch_to.active_element.get_attribute('aria-label')
    assert focused == 'Shards: where am I.txt'


def test_shards_in_trouble_come_first_and_fit_a_phone(page: Page) -> None:
    show = """
        const run = async (count, other, done) => {
          const [details, api] = await Promise.all(
            [import('./page/details.js'), import('./page/api.js')]);
          const {farmers} = await api.network();
          const copies = () => new Map(farmers.map((farmer) => [farmer.node_id, 'held']));
          const shards = Array.from({length: count}, copies);
          shards[count - 1] = new Map([['b'.repeat(40), 'lost'], ['c'.repeat(40), 'promised']]);
          if (other) shards[0] = new Map([[other, 'held']]);
          await details.open({name: `${'large'.repeat(40)}.bin`, size: 5e9}, () => shards);
          done();
        };
        run(...arguments);
    """
    page.phone()
    page.driver.execute_async_script(show, 150, None)
    assert page.text('#details-health') == '149 of 150 shards healthy'
    rows = [row.text.split() for row in page.all('#details-shards > li')]
    assert len(rows) == 100
    assert rows[0] == ['Shard', '149', 'b' * 8, 'lost', 'c' * 8, 'promised']
    assert 'failed an audit' in page.text('#details-legend')
    assert page.width() == 0
    page.check()
    page.press('Show all 150 shards', '#details')
    assert len(page.all('#details-shards > li')) == 150
    page.driver.execute_async_script(show, 17, 'd' * 40)
    assert page.text('#details-health') == '15 of 17 shards healthy'
    assert 'has not answered lately' in page.text('#details-legend')
    assert page.width() == 0
    page.shoot('shards-phone')


def test_owner_of_a_farmer_sees_its_status(visitor: Page, tmp_path: Path) -> None:
    command = [sys.executable, '-m', 'storj', 'farm', '--json', '--path', str(tmp_path)]
    environment = {
        'PATH': os.environ['PATH'],
        'HOME': str(tmp_path),
        'PYTHONPATH': str(Path(__file__).parents[2]),
        'STORJ_BRIDGE': visitor.network.bridge_url,
    }
    with subprocess.Popen(
        [*command, '--size', '10MB'], stdout=subprocess.PIPE, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            started = json.loads(process.stdout.readline())
            visitor.driver.get(started['status_url'])
            visitor.until(lambda: visitor.text('#state') == 'known to the bridge')
            assert visitor.text('#space-text') == '0 B of 9.5 MiB used'
            assert started['node_id'] in visitor.text('#facts')
            visitor.shoot('farm')
            assert visitor.violations({}) == []
            assert visitor.console() == []
            process.terminate()
            visitor.until(lambda: visitor.text('#state') == 'stopped')
            assert process.wait(20) == 0
        finally:
            process.kill()
    visitor.console()


def test_phone_sees_everything_without_scrolling_sideways(page: Page) -> None:
    page.phone()
    page.upload('a very long name ' + 'x' * 120 + '.jpeg')
    assert page.width() == 0
    page.shoot('phone')
    page.driver.execute_script('location.hash = "#network"')
    page.until(lambda: len(page.all('#farmers .farmer')) >= 3)
    assert page.width() == 0
    page.check()
    page.shoot('phone-network')


def test_keyboard_alone_is_enough(page: Page) -> None:
    seen = []
    for number in range(12):
        ActionChains(page.driver).send_keys(Keys.TAB).perform()
        if number == 0:
            assert page.driver.switch_to.active_element.text == 'Skip to content'
        seen.append(page.driver.switch_to.active_element.get_attribute('id'))
    assert {'theme', 'picker', 'add-reference'} <= set(seen)


def test_keyboard_alone_opens_folders_and_downloads(page: Page, account: Client) -> None:
    sign_in(page)

    def press(*keys: str) -> None:
        ActionChains(page.driver).send_keys(*keys).perform()

    def focused() -> str:
        element = page.driver.switch_to.active_element
        return element.get_attribute('aria-label') or element.text

    # From the search, which has the focus, over the heads of the columns.
    press('hol', *[Keys.TAB] * 4)
    assert focused() == 'holidays'
    press(Keys.ENTER)
    page.until(lambda: 'large.bin' in names(page))
    press('large', *[Keys.TAB] * 5)
    assert focused() == 'Download large.bin'
    press(Keys.SPACE)
    assert page.downloaded('large.bin') == FILES['large.bin']
    assert page.console() == []


def test_long_list_comes_in_pages_and_is_drawn_in_steps(page: Page, account: Client) -> None:
    sign_in(page)
    page.driver.execute_script(
        """
        const real = window.fetch;
        const row = (_, index) => ({
          id: String(index).padStart(24, '0'), filename: `file ${index}`, size: index,
          created: new Date(index).toISOString(),
        });
        const rows = Array.from({length: 2003}, row);
        window.fetch = async (address, options) => {
          const url = new URL(address);
          if (!url.pathname.endsWith('/files')) return real(address, options);
          const after = Date.parse(url.searchParams.get('startDate') ?? '') || -1;
          return Response.json(rows.slice(after + 1, after + 2001));
        };
        """
    )
    open_row(page, 'holidays')
    page.until(lambda: page.text('#browse-count') == '2003 files, 1.9 MiB')
    assert len(names(page)) == 200
    assert page.text('#more') == 'Show more (1803)'
    page.one('#more').click()
    assert names(page)[-1] == 'file 399'
    page.one('#search').send_keys('2002')
    assert names(page) == ['file 2002']


def test_rate_and_time_left_follow_the_last_seconds(modules: Page) -> None:
    lines = modules.driver.execute_script(
        """
        return import('./page/rate.js').then(({Rate}) => {
          let time = 0;
          const rate = new Rate(100 * 1024 ** 2, () => time);
          const at = (seconds, done) => {
            time = 1000 * seconds;
            return rate.update(done * 1024 ** 2);
          };
          return [at(0, 0), at(0.5, 1), at(2, 4), at(10, 20), at(20, 30), at(21, 25), at(23, 99.5),
            at(24, 100)];
        });
        """
    )
    assert lines == [
        '0 B of 100 MiB',
        '1 MiB of 100 MiB',
        '4 MiB of 100 MiB · 2 MiB/s · 48 s left',
        '20 MiB of 100 MiB · 2 MiB/s · 40 s left',
        '30 MiB of 100 MiB · 1 MiB/s · 1 min left',
        '25 MiB of 100 MiB',
        '99.5 MiB of 100 MiB · 37.3 MiB/s · 1 s left',
        '100 MiB of 100 MiB · 25 MiB/s',
    ]


def test_theme_is_chosen_and_kept(page: Page) -> None:
    def background() -> str:
        return page.driver.execute_script('return getComputedStyle(document.body).backgroundColor')

    page.theme('Dark')
    dark = background()
    page.shoot('files-dark')
    page.open()
    assert background() == dark
    page.theme('Light')
    assert background() != dark
    for scheme in ('dark', 'light'):
        page.theme('System')
        page.driver.execute_cdp_cmd(
            'Emulation.setEmulatedMedia',
            {'features': [{'name': 'prefers-color-scheme', 'value': scheme}]},
        )
        assert (background() == dark) is (scheme == 'dark')
    page.driver.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': []})


def test_unreachable_node_is_told(page: Page) -> None:
    page.network.faults.add(Fault('refuse', route='GET /api/status', times=0))
    page.until(lambda: page.text('#node-state') == 'unreachable')
    page.network.faults.clear()
    page.until(lambda: page.text('#node-state') == 'running')
    page.console()

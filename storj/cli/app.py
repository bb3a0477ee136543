"""The command ``storj``: a table of its commands, each imported when it is called."""

from __future__ import annotations

from storj.cli.command import Entry, Group

FILES = 'Files'
FAMILIES = 'Families'
MORE = 'More'

#: A new family is one line here.
ENTRIES = (
    Entry('cp', 'storj.cli.copy:cp', 'Copy files to, from and between buckets.', FILES),
    Entry('mv', 'storj.cli.copy:mv', 'Move files to, from and between buckets.', FILES),
    Entry('ls', 'storj.cli.listing:ls', 'List buckets, or the files of a bucket.', FILES),
    Entry('tree', 'storj.cli.listing:tree', 'Show buckets and folders as a tree.', FILES),
    Entry('du', 'storj.cli.listing:du', 'Sum up the files of buckets and folders.', FILES),
    Entry('find', 'storj.cli.listing:find', 'Find files by name, size and age.', FILES),
    Entry('stat', 'storj.cli.listing:stat', 'Show all that is known of a bucket or file.', FILES),
    Entry('rm', 'storj.cli.files:rm', 'Remove files from a bucket.', FILES),
    Entry('cat', 'storj.cli.copy:cat', 'Write files to standard output.', FILES),
    Entry('sync', 'storj.cli.sync:sync', 'Make one folder or bucket like another.', FILES),
    Entry('check', 'storj.cli.sync:check', 'Compare two places by content.', FILES),
    Entry('mb', 'storj.cli.buckets:mb', 'Make a bucket.', FILES),
    Entry('rb', 'storj.cli.buckets:rb', 'Remove a bucket.', FILES),
    Entry(
        'share', 'storj.cli.share:share', 'Make a link to a file that works without login.', FILES
    ),
    Entry('account', 'storj.cli.account:account', 'Register, log in, log out.', FAMILIES),
    Entry('bucket', 'storj.cli.buckets:bucket', 'Create, show and remove buckets.', FAMILIES),
    Entry('file', 'storj.cli.files:file', 'Upload, download, inspect and remove files.', FAMILIES),
    Entry('key', 'storj.cli.keys:key', 'Encryption key and signing keys.', FAMILIES),
    Entry('config', 'storj.cli.config:config', 'Show and change the settings.', FAMILIES),
    Entry('network', 'storj.cli.network:network', 'Run a Storj network on this machine.', FAMILIES),
    Entry('metadisk', 'storj.cli.metadisk:metadisk', 'Files of a MetaDisk node.', FAMILIES),
    Entry('transfer', 'storj.cli.copy:transfer', 'Interrupted transfers.', FAMILIES),
    Entry('completion', 'storj.cli.completion:completion', 'Completion for your shell.', FAMILIES),
    Entry('bridge', 'storj.cli.servers:bridge', 'Run one of several bridges of a database.', MORE),
    Entry('farm', 'storj.cli.servers:farm', 'Offer space of this machine to a network.', MORE),
    Entry('serve', 'storj.cli.servers:serve', 'Let programs of S3 use the account.', MORE),
    Entry('info', 'storj.cli.config:info', 'Show versions, settings and the bridge.', MORE),
    Entry(
        'doctor', 'storj.cli.config:doctor', 'Check settings, bridge, login and this machine.', MORE
    ),
    Entry('help', 'storj.cli.config:help_', 'Show the help of a command or a topic.', MORE),
    Entry('demo', 'storj.cli.demo:demo', 'Watch a local network store files.', MORE),
)

_COPY = "'storj cp' uploads, downloads and copies"
_LOGIN = "'storj account login' logs in"

#: What other programs for storage, libstorj's among them, call what is called otherwise here.
_ELSEWHERE = {
    **dict.fromkeys(('copy', 'upload', 'download', 'put', 'get', 'upload-file'), _COPY),
    **dict.fromkeys(('download-file', 'rcat', 'pipe'), _COPY),
    **dict.fromkeys(('move', 'moveto', 'rename', 'ren'), "'storj mv' moves and renames"),
    **dict.fromkeys(('list', 'dir', 'lsf', 'lsd', 'lsl', 'lsjson'), "'storj ls' lists"),
    **dict.fromkeys(('list-buckets', 'list-files'), "'storj ls' lists"),
    **dict.fromkeys(('size', 'ncdu'), "'storj du' sums files up"),
    **dict.fromkeys(('delete', 'del', 'remove', 'remove-file', 'purge'), "'storj rm' removes"),
    **dict.fromkeys(('mkdir', 'mkbkt', 'add-bucket', 'make-bucket'), "'storj mb' makes a bucket"),
    **dict.fromkeys(('rmdir', 'remove-bucket'), "'storj rb' removes a bucket"),
    **dict.fromkeys(('mirror', 'rsync'), "'storj sync' makes one side like the other"),
    **dict.fromkeys(('diff', 'cmp', 'compare', 'cryptcheck'), "'storj check' compares contents"),
    **dict.fromkeys(('presign', 'link', 'url'), "'storj share' makes a link"),
    **dict.fromkeys(('login', 'auth', 'configure', 'authorize-account'), _LOGIN),
    'register': "'storj account register' makes an account",
    'logout': "'storj account logout' forgets the login",
    'import-keys': "'storj account login --libstorj' takes libstorj's login",
    'export-keys': "'storj key export --mnemonic' prints the encryption key",
    'get-info': "'storj info' describes the bridge",
    'version': "'storj --version'",
    'up': "'storj network up' starts a network",
    'list-mirrors': "'storj file mirrors' shows them",
}

app = Group(
    'storj',
    entries=ENTRIES,
    elsewhere=_ELSEWHERE,
    help='Store files on a Storj v2 network, encrypted, and get them back.',
    examples=(
        'storj network up                         a bridge and farmers on this machine',
        'storj account register                   an account on a bridge',
        'storj mb storj://photos                  a bucket',
        'storj cp -r holidays storj://photos/     upload a folder',
        'storj cp storj://photos/cat.jpg .        download a file',
    ),
    epilog="'storj COMMAND --help' explains a command; exit codes: 0 done, 1 failed, 2 usage, "
    '3 partly done, 4 login, 5 not found, 6 unreachable, 7 integrity, 8 too few farmers or shards, '
    '9 conflict, 130 interrupted.',
)

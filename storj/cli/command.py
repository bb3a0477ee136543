"""The kinds of command and group that all of ``storj`` is made of.

They add what every command has (``--json`` and its fellows, examples in the help, ``-h``), import a
command only when it is called, and turn every way of ending into one exit code.
"""

from __future__ import annotations

import dataclasses
import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import click
from click.shell_completion import shell_complete

from storj.catalog.errors import UsageProblem
from storj.catalog.filters import Rule
from storj.cli.errors import FAILED, OK, explain
from storj.cli.options import LocalPath, setting_option
from storj.cli.output import Output, styled
from storj.cli.session import Session
from storj.cli.streams import StandardStreams, StreamFailed
from storj.metadata import __version__
from storj.text import from_system, indented

#: Sections of a help page for the options that are not a command's own.
COMMON_TITLE = 'Options of every command'

CONTEXT_SETTINGS: dict[str, Any] = {'help_option_names': ['-h', '--help'], 'max_content_width': 100}


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep the value of a common option in the session.

    The options may precede or follow the name of a command. What was typed last wins;
    defaults and environment count once, at the front.
    """
    typed = ctx.get_parameter_source(str(param.name)) == click.core.ParameterSource.COMMANDLINE
    if typed or ctx.parent is None:
        session = ctx.ensure_object(Session)
        setattr(session, str(param.name), value)


def _common(*names: str, help: str, **attributes: Any) -> click.Option:
    return click.Option(list(names), help=help, expose_value=False, callback=_keep, **attributes)


def _common_setting(name: str, *names: str, **attributes: Any) -> click.Option:
    declared = setting_option(name, *names, **attributes)
    return _common(*declared.pop('param_decls'), **declared)


def common_options() -> list[click.Option]:
    """Return new options that every command takes."""
    return [
        _common_setting('json', '--json', 'as_json', is_flag=True, default=False),
        _common('-q', '--quiet', is_flag=True, help='Print results and errors only.'),
        _common('-v', '--verbose', count=True, help='Print more; -vv prints everything.'),
        _common_setting('color', '--color', 'colour'),
        _common('--bytes', 'exact', is_flag=True, help='Sizes in bytes.'),
        _common('--utc', is_flag=True, help='Times in UTC.'),
        _common(
            '--profile',
            metavar='NAME',
            envvar='STORJ_PROFILE',
            show_envvar=True,
            help='Section of storj.ini to use.',
        ),
        _common_setting('bridge', metavar='URL', help='Bridge to use.'),
        _common(
            '--log-file',
            metavar='PATH',
            type=LocalPath(dir_okay=False),
            help='Write a detailed log to a file.',
        ),
    ]


def _version_option() -> click.Option:
    """Return a new option that shows the version of the program that was called."""

    def show(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            click.echo(f'{ctx.info_name} {__version__}')
            ctx.exit()

    return click.Option(
        ['--version'],
        is_flag=True,
        is_eager=True,
        help='Show the version and exit.',
        expose_value=False,
        callback=show,
    )


class _Base(click.Command):
    """What commands and groups share.

    Args:
        examples (Sequence[str]): command lines that the help shows before the options.
    """

    def __init__(self, *args: Any, examples: Sequence[str] = (), **kwargs: Any) -> None:
        kwargs['context_settings'] = {**CONTEXT_SETTINGS, **(kwargs.get('context_settings') or {})}
        super().__init__(*args, **kwargs)
        self.examples = tuple(examples)
        self._common = common_options()
        self._version = _version_option()

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the command's own parameters, the common options and ``--help``."""
        params = super().get_params(ctx)
        own = {param.name for param in params}
        program = [self._version] if ctx.parent is None and isinstance(self, click.Group) else []
        return [*program, *params, *(option for option in self._common if option.name not in own)]

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write usage, purpose, examples, and only then the options."""
        self.format_usage(ctx, formatter)
        self.format_help_text(ctx, formatter)
        if self.examples:
            with formatter.section('Examples'):
                for example in self.examples:
                    formatter.write(f'{" " * formatter.current_indent}{example}\n')
        self.format_options(ctx, formatter)
        self.format_epilog(ctx, formatter)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the command's own options, then those of every command."""
        common = {id(option) for option in self._common}
        own: list[tuple[str, str]] = []
        shared: list[tuple[str, str]] = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx) if isinstance(param, click.Option) else None
            if record is not None:
                is_common = id(param) in common or param.name == 'help'
                (shared if is_common else own).append(record)
        if own:
            with formatter.section('Options'):
                formatter.write_dl(own)
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)
        if shared:
            with formatter.section(COMMON_TITLE):
                formatter.write_dl(shared)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments and keep the filters in the order in which they were typed.

        click collects the values of each option apart; its parser alone knows the order of both.
        """
        order: list[click.Parameter] = []
        filtered = {param.name for param in self.params} & {'include', 'exclude'}
        if filtered and not ctx.resilient_parsing:
            order = self.make_parser(ctx).parse_args(list(args))[2]
        rest = super().parse_args(ctx, args)
        values = {name: iter(ctx.params.pop(name, ())) for name in filtered}
        rules = [
            Rule(next(values[param.name]), param.name == 'include')
            for param in order
            if param.name in values
        ]
        if filtered:
            ctx.ensure_object(Session).rules = rules
        return rest

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line and end with its exit code.

        click's own ``main`` gives 1 to an interrupt and a traceback to our errors, so it is not
        used. Local patterns are expanded by the copy commands on every system.
        """
        arguments = [from_system(word) for word in (sys.argv[1:] if args is None else args)]
        program = prog_name or (self.name or 'storj')
        instruction = os.environ.get(complete_var or _variable(program), '')
        status = run(self, arguments, program, extra, instruction)
        if standalone_mode:
            sys.exit(status)
        return status


def run(
    root: click.Command, args: list[str], program: str, extra: dict[str, Any], instruction: str
) -> int:
    """Run a command and report what went wrong, if anything did.

    Args:
        root (click.Command): to run.
        args (list[str]): its arguments.
        program (str): as messages name it.
        extra (dict[str, Any]): further arguments of the context.
        instruction (str): what a shell asks that completes a line; empty for a command.
    """
    session = Session()
    session.arguments = args
    session.as_json = bool(os.environ.get('STORJ_JSON'))
    status: int
    with StandardStreams() as streams:
        try:
            streams.check()
            if instruction:
                importlib.import_module('storj.cli.completion')
                status = shell_complete(root, extra, program, _variable(program), instruction)
            else:
                with session, root.make_context(program, args, obj=session, **extra) as ctx:
                    root.invoke(ctx)
                status = OK
        except click.exceptions.Exit as end:
            status = end.exit_code
        except (Exception, KeyboardInterrupt) as error:
            # Of arguments that could not be read, those of a subcommand have not been asked.
            session.as_json = session.as_json or '--json' in args
            status = _end(error, session)
        return status or FAILED * streams.failed


def _variable(program: str) -> str:
    """Return the environment variable by which a shell asks a program for completions."""
    return f'_{program.replace("-", "_").replace(" ", "_").upper()}_COMPLETE'


def _end(error: BaseException, session: Session) -> int:
    """Report an error in the form asked for and return the exit code."""
    if isinstance(error, click.Abort) and isinstance(error.__context__, KeyboardInterrupt):
        # That is what click makes of Ctrl-C at a question.
        error = error.__context__
    report = explain(error)
    if isinstance(error, StreamFailed) and error.reader_gone:
        # The reader closed the pipe early, as 'head' does: that is no error to report.
        return report.exit_code
    if isinstance(error, KeyboardInterrupt) and session.resumable:
        report = dataclasses.replace(report, hint='run the same command to resume')
    output = session.output
    if session.debugging:
        for line in indented(''.join(traceback.format_exception(error)).rstrip()).split('\n'):
            output.warn(line)
    if output.as_json:
        output.failure(report.to_dict())
    else:
        _print(report.lines(), error, output)
    return report.exit_code


def _print(lines: Sequence[str], error: BaseException, output: Output) -> None:
    first, *rest = lines
    output.warn(styled('storj:', fg='red', bold=True), first.removeprefix('storj:'))
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None and not rest:
        rest = [f"hint: '{context.command_path} --help' shows how it is used"]
    for line in rest:
        output.warn(styled('hint:', fg='cyan'), line.removeprefix('hint:'))


class Command(_Base):
    """A command."""

    def invoke(self, ctx: click.Context) -> Any:
        """Start logging when the last of the common options is read, then run."""
        ctx.ensure_object(Session).start()
        return super().invoke(ctx)


class Entry(NamedTuple):
    """A command that is imported when it is called.

    Attributes:
        name (str): as typed.
        target (str): ``module:attribute`` of the command.
        help (str): one line for the list of commands; the command's own is the same.
        section (str): heading in the list.
    """

    name: str
    target: str
    help: str
    section: str = 'Commands'


class Group(_Base, click.Group):
    """A group of commands, some of which may be imported only when called.

    Args:
        entries (Sequence[Entry]): those commands.
        elsewhere (Mapping[str, str]): names of commands in other programs, with a hint for
            a user who types one here.
    """

    command_class = Command

    def __init__(
        self,
        *args: Any,
        entries: Sequence[Entry] = (),
        elsewhere: Mapping[str, str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs, no_args_is_help=False)
        self.elsewhere = dict(elsewhere or {})
        self.entries = {entry.name: entry for entry in entries}

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; without any, show the help, which is not an error."""
        if not (args or self.invoke_without_command or ctx.resilient_parsing):
            click.echo(ctx.get_help(), color=ctx.color)
            ctx.exit()
        return super().parse_args(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of the commands, those of the table first and in its order."""
        return [*self.entries, *sorted(super().list_commands(ctx))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return a command, imported if need be."""
        entry = self.entries.get(cmd_name)
        if entry is None:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = entry.target.partition(':')
        found: click.Command = getattr(importlib.import_module(module), attribute)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that is meant; an unknown one is answered with the nearest names."""
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing:
            if name.startswith('-'):
                raise click.NoSuchOption(name, ctx=ctx)
            near = difflib.get_close_matches(name, self.list_commands(ctx), n=3, cutoff=0.6)
            hint = f"'{ctx.command_path} --help' lists the commands"
            if name in self.elsewhere:
                hint = self.elsewhere[name]
            elif near:
                hint = (
                    'did you mean ' + ' or '.join(f"'{ctx.command_path} {it}'" for it in near) + '?'
                )
            raise UsageProblem(f'no such command: {name}', hint=hint)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands under the headings of the table, without importing them."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name in self.list_commands(ctx):
            if name in self.entries:
                entry = self.entries[name]
                sections.setdefault(entry.section, []).append((name, entry.help))
            else:
                found = self.get_command(ctx, name)
                if found is not None and not found.hidden:
                    text = found.get_short_help_str(limit=formatter.width)
                    sections.setdefault('Commands', []).append((name, text))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def command(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], Command]:
    """Make a :class:`Command` of a function."""
    return click.command(name, cls=Command, **attributes)


def group(name: str, **attributes: Any) -> Callable[[Callable[..., Any]], Group]:
    """Make a :class:`Group` of a function."""
    return click.group(name, cls=Group, **attributes)

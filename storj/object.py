"""Storj object module: what all models have in common.

Records are compared by value, keep the fields they do not know, show themselves without their
secrets, and answer to field names like the JSON object they came from. They are mutable, so they
are hashed by their identifier alone, which the bridge never changes. Knows nothing of the bridge; a
record merely remembers which client made it.

:class:`Object` is what they have in common wherever their fields are; :class:`Record` keeps them as
attributes.
"""

from __future__ import annotations

import logging
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, overload

from storj.exception import ClientError

if TYPE_CHECKING:
    from inspect import Signature

    from typing_extensions import Self, dataclass_transform

    _Base = object
else:

    def dataclass_transform() -> Callable[[type], type]:
        """Stand in for the decorator of Python 3.11, which only type checkers and editors read."""
        return lambda kind: kind

    # Programs of the 0.1.5 era test for this base. Its releases cannot be built by a pip newer
    # than 19, so it is used where it is and not required.
    try:
        from steenzout.object import Object as _Base
    except ImportError:

        class _Base:
            """Nothing but a place for fields."""


__all__ = (
    'USUAL_TIME',
    'Field',
    'Identifier',
    'Integer',
    'Object',
    'Record',
    'Text',
    'Time',
    'parse_integer',
    'parse_text',
    'parse_time',
    'set_client_factory',
)

_LOGGER = logging.getLogger(__name__)

_MASK = '***'

# In nested JSON as well as in fields: what opens files, accounts or audits.
_SECRETS = frozenset(
    {'challenges', 'encryptionKey', 'mnemonic', 'pass', 'password', 'salt', 'secret', 'token'}
)

# Records hold records a level or two deep; JSON that a hostile bridge sends has no bottom.
_DEPTH = 16

# As bridges write times. For any other form a parser is loaded, which takes its time.
USUAL_TIME = re.compile(r'[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z')

# No bridge, and no program of ours, is as old as this in milliseconds.
_FIRST_MILLISECONDS = 10**11

_client_factory: Callable[[], Any] | None = None


def set_client_factory(factory: Callable[[], Any]) -> None:
    """Set where records that no client made get one from.

    Args:
        factory (Callable[[], storj.http.Client]): called when such a record is asked to act.
    """
    global _client_factory
    _client_factory = factory


def _read_time(text: str) -> datetime | int:
    if text.isascii() and text.isdigit() and len(text) > 8:
        return int(text)
    from dateutil.parser import isoparse

    return isoparse(text)


def parse_time(value: object) -> datetime | None:
    """Read a time in any of the forms in which bridges write one.

    Args:
        value (object): ISO 8601 text, milliseconds since 1970 (a number, or its digits as text),
            or a ``datetime``; without an offset it is taken as UTC. A number that would be a time
            before March 1973 is one of seconds, as programs of release 0.3 give them.

    Returns:
        datetime | None: aware, in UTC; None for what is no time. A listing of thousands of
        entries must not end because one of them is damaged.
    """
    try:
        if isinstance(value, str):
            if USUAL_TIME.fullmatch(value):
                return datetime.fromisoformat(f'{value[:-1]}+00:00')
            value = _read_time(value)
        if isinstance(value, datetime):
            if value.tzinfo is None:
                return value.replace(tzinfo=timezone.utc)
            return value.astimezone(timezone.utc)
        if isinstance(value, int | float) and not isinstance(value, bool):
            seconds = value if abs(value) < _FIRST_MILLISECONDS else value / 1000
            return datetime.fromtimestamp(seconds, timezone.utc)
    except (ValueError, OverflowError, OSError):
        pass
    if value is not None:
        _LOGGER.debug('not a time: %s', reprlib.repr(value))
    return None


def parse_text(value: Any) -> Any:
    """Return text, or None for JSON that is none.

    A number is taken for its digits. What is no JSON is kept: only a program can have set it.
    """
    if isinstance(value, bool | list | Mapping):
        return None
    return str(value) if isinstance(value, int | float) else value


def parse_integer(value: object) -> int | None:
    """Return a whole number, also from text or a float without fraction; else None."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(value) if value.is_integer() else None
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            return None
    return None


Value = TypeVar('Value')


class Field(Generic[Value]):
    """Descriptor of a field of a record, which is also an argument of its class.

    The arguments stand in the order in which a class declares its fields, those of its base first;
    each may be left out.

    Args:
        parse (Callable[[Any], Value]): what makes the value of what a bridge or a program gives,
            None included; the value as it is by default.
        default (Any): what it makes the value of when the argument is left out.
    """

    def __init__(
        self, parse: Callable[[Any], Value] = lambda value: value, default: Any = None
    ) -> None:
        self.parse = parse
        self.default = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Self: ...
    @overload
    def __get__(self, instance: Object, owner: type) -> Value: ...
    def __get__(self, instance: Object | None, owner: type) -> Any:
        return self if instance is None else vars(instance).get(self._name)

    def __set__(self, instance: Object, value: Any) -> None:
        vars(instance)[self._name] = self.parse(value)


class Time(Field['datetime | None']):
    """Field that holds an aware UTC ``datetime`` and takes what bridges send."""

    def __init__(self) -> None:
        super().__init__(parse_time)


class Integer(Field['int | None']):
    """Field that holds an ``int``, or None for what is not a whole number."""

    def __init__(self) -> None:
        super().__init__(parse_integer)


class Text(Field['str | None']):
    """Field that holds text, or None for JSON that is none."""

    def __init__(self) -> None:
        super().__init__(parse_text)


class Identifier(Field[str]):
    """Field by which the bridge knows a record.

    Its type is text although a record made without one has None: every record that comes from a
    bridge has one, and programs pass it on.
    """

    def __init__(self) -> None:
        super().__init__(parse_text)


class _Signature:
    """Descriptor of the arguments of a record's class, as ``inspect.signature`` looks for them."""

    def __get__(self, instance: Object | None, owner: type[Object]) -> Signature:
        from inspect import Parameter, Signature

        if owner.__init__ is not Object.__init__:
            raise AttributeError('__signature__')
        arguments = [
            Parameter(name, Parameter.POSITIONAL_OR_KEYWORD, default=field.default)
            for name, field in owner._fields.items()
        ]
        if owner._keep is not Object._keep:
            arguments.append(Parameter('extra', Parameter.VAR_KEYWORD))
        return Signature(arguments)


@dataclass_transform()
class Object(_Base):
    """Base of all models, and of records of a program's own.

    Two records are equal when they are of one class and all their fields are. They can be put in
    sets and be keys, found by their identifier: do not change it while they are.
    """

    # None, so that a subclass can be a dict as well.
    __slots__ = ()

    #: Field that identifies a record of the class, '' if there is none.
    _identifier: ClassVar[str] = 'id'

    _fields: ClassVar[dict[str, Field[Any]]] = {}
    __signature__ = _Signature()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        own = {name: value for name, value in vars(cls).items() if isinstance(value, Field)}
        cls._fields = {**cls._fields, **own}

    def __init__(self, /, *values: Any, **fields: Any) -> None:
        if values:
            fields |= self._named(values, fields)
        # Popped as they are read: what is left in 'fields' is what the class does not document.
        known = {
            name: field.parse(fields.pop(name, field.default))
            for name, field in self._fields.items()
        }
        self._keep(known, fields)

    def _named(self, values: Sequence[Any], fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that were given by their position, by name.

        Raises:
            TypeError: If there are more values than fields, or two for one field.
        """
        kind = type(self).__name__
        if len(values) > len(self._fields):
            raise TypeError(f'{kind} has {len(self._fields)} fields, not {len(values)}')
        named = dict(zip(self._fields, values, strict=False))
        if named.keys() & fields.keys():
            raise TypeError(f'{kind} got two values of {min(named.keys() & fields.keys())!r}')
        return named

    def _keep(self, fields: dict[str, Any], extra: dict[str, Any]) -> None:
        """Keep the fields, and what was given besides.

        Raises:
            TypeError: If there is anything besides; a class that takes such says how it is kept.
        """
        if extra:
            raise TypeError(f'{type(self).__name__} has no field {min(extra)!r}')
        vars(self).update(fields)

    def _values(self) -> dict[str, Any]:
        """Return all fields, the unknown ones last."""
        return dict(vars(self))

    def to_dict(self) -> dict[str, Any]:
        """Return the record as JSON has it: names of the wire, times as text, no fields of None.

        Secrets are included; use ``repr`` for logs.
        """
        return {name: _to_json(v) for name, v in self._values().items() if v is not None}

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other) or not isinstance(other, Object):
            return NotImplemented
        return self._values() == other._values()

    def __ne__(self, other: object) -> bool:
        # Said here because steenzout's base has one of its own.
        result = self.__eq__(other)
        return result if result is NotImplemented else not result

    def __hash__(self) -> int:
        # Not by value: a record that changed would be lost in its set. Records of equal value have
        # equal identifiers, and an identifier that is not text gives one hash for all.
        identifier = getattr(self, self._identifier, None) if self._identifier else None
        return hash(identifier if isinstance(identifier, str) else type(self))

    def __repr__(self) -> str:
        shown = (
            f'{name}={_show(name, value)}'
            for name, value in self._values().items()
            if value is not None
        )
        return f'{type(self).__name__}({", ".join(shown)})'

    __str__ = __repr__

    def __getitem__(self, name: str) -> Any:
        return self.to_dict()[name]

    def __contains__(self, name: object) -> bool:
        return name in self.to_dict()

    def __iter__(self) -> Iterator[str]:
        return iter(self.to_dict())

    def keys(self) -> list[str]:
        """Return the names of the fields that are set, so that ``dict(record)`` works."""
        return list(self.to_dict())

    def get(self, name: str, default: Any = None) -> Any:
        """Return one field as JSON has it.

        Args:
            name (str): the field's name on the wire.
            default (Any): what to return when the record has no such field.
        """
        return self.to_dict().get(name, default)

    def _made_by(self, client: Any) -> None:
        """Do nothing: a record that never acts needs no client."""


class Record(Object):
    """Record whose fields are attributes: each a :class:`Field` of its class.

    A field that the class does not document is kept: it is read as an attribute, unless a method or
    property has its name, and always with ``record['name']``, ``get`` and ``to_dict``.
    """

    # Slots keep both out of vars(): the fields of a record are what is left there.
    __slots__ = ('_client', '_extra')

    def _keep(self, fields: dict[str, Any], extra: dict[str, Any]) -> None:
        vars(self).update(fields)
        self._extra = extra
        self._client: Any = None

    def __getattr__(self, name: str) -> Any:
        # Reached only when nothing else has the name. Names with an underscore are never taken
        # from outside: copy, pickle and others ask objects for such names.
        if not name.startswith('_') and name in self._extra:
            return self._extra[name]
        raise AttributeError(f'{type(self).__name__!r} object has no attribute {name!r}')

    def _values(self) -> dict[str, Any]:
        known = vars(self)
        return {**known, **{name: v for name, v in self._extra.items() if name not in known}}

    def __getstate__(self) -> dict[str, Any]:
        # The client holds sessions, locks and a password: it does not travel.
        return {'fields': dict(vars(self)), 'extra': self._extra}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state['fields'])
        self._extra = dict(state['extra'])
        self._client = None

    def _made_by(self, client: Any) -> None:
        """Remember the client to act through."""
        self._client = client

    def _acting_client(self) -> Any:
        """Return the client that made this record, or else one from the factory."""
        if self._client is not None:
            return self._client
        if _client_factory is None:
            raise ClientError(
                f'no client made this {type(self).__name__}: call the method of storj.http.Client'
            )
        return _client_factory()


def _to_json(value: Any, depth: int = _DEPTH) -> Any:
    """Return a field as JSON has it; what lies too deep came from JSON and is so already."""
    if isinstance(value, Object):
        return value.to_dict()
    if isinstance(value, datetime):
        utc = value.astimezone(timezone.utc).replace(tzinfo=None)
        return utc.isoformat(timespec='milliseconds') + 'Z'
    if isinstance(value, Mapping) and depth:
        return {name: _to_json(item, depth - 1) for name, item in value.items()}
    if isinstance(value, list | tuple) and depth:
        return [_to_json(item, depth - 1) for item in value]
    return value


class _Repr(reprlib.Repr):
    """Short texts, and no secrets at any depth."""

    def __init__(self) -> None:
        super().__init__()
        self.maxstring = self.maxother = 80
        self.maxdict = 12

    def repr_dict(self, x: dict[Any, Any], level: int) -> str:
        if level <= 0:
            return '{...}'
        shown = [
            f'{self.repr1(name, level - 1)}: '
            + (_MASK if name in _SECRETS else self.repr1(value, level - 1))
            for name, value in list(x.items())[: self.maxdict]
        ]
        return '{' + ', '.join(shown + ['...'] * (len(x) > self.maxdict)) + '}'

    def repr_instance(self, x: Any, level: int) -> str:
        # A record masks its own secrets, and a time is short: neither is to be cut.
        return repr(x) if isinstance(x, Object | datetime) else super().repr_instance(x, level)


_REPR = _Repr()


def _show(name: str, value: Any) -> str:
    """Return the text of one field in a record's repr."""
    return _MASK if name in _SECRETS and value else _REPR.repr(value)

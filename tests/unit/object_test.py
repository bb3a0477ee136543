"""What all records have in common."""

from __future__ import annotations

import copy
import inspect
import pickle
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from storj import model
from storj import object as storj_object
from storj.exception import ClientError
from storj.object import Field, Object, Record, Text, Time, parse_time

MOMENT = datetime(2016, 11, 23, 10, 15, 30, 123000, tzinfo=timezone.utc)

RECORDS = [
    model.Bucket,
    model.Contact,
    model.ExchangeReport,
    model.File,
    model.FileMirrors,
    model.FilePointer,
    model.Frame,
    model.Key,
    model.Mirror,
    model.Shard,
    model.Token,
    model.User,
]

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


# -- times -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    'value',
    [
        '2016-11-23T10:15:30.123Z',
        '2016-11-23T10:15:30.123+00:00',
        '2016-11-23T12:15:30.123+02:00',
        '2016-11-23 10:15:30.123',
        1479896130123,
        1479896130123.0,
        '1479896130123',
        MOMENT,
        MOMENT.astimezone(timezone(timedelta(hours=-5))),
        MOMENT.replace(tzinfo=None),
    ],
)
def test_time_of_any_form_is_aware_utc(value: Any) -> None:
    assert parse_time(value) == MOMENT
    assert parse_time(value).tzinfo is timezone.utc  # type: ignore[union-attr]


@pytest.mark.parametrize('value', [1479896130, 1479896130.0, '1479896130'])
def test_number_of_seconds_is_a_time(value: Any) -> None:
    assert parse_time(value) == MOMENT.replace(microsecond=0)


@pytest.mark.parametrize(
    'value',
    [
        None,
        '',
        'yesterday',
        '2016-13-40',
        'NaN',
        True,
        [],
        {},
        float('nan'),
        float('inf'),
        10**30,
        -(10**30),
        '9' * 400,
        '0001-01-01T00:00:00+14:00',
        '\u0661' * 13,
        b'2016-11-23',
        object(),
    ],
)
def test_what_is_no_time_is_none(value: Any) -> None:
    assert parse_time(value) is None


@given(json_values)
def test_no_json_value_breaks_a_time(value: Any) -> None:
    moment = parse_time(value)
    assert moment is None or moment.tzinfo is timezone.utc


def test_time_that_is_assigned_is_read_too() -> None:
    bucket = model.Bucket()
    bucket.created = '2016-11-23T10:15:30.123Z'
    assert bucket.created == MOMENT
    bucket.created = None
    assert bucket.created is None


# -- whole numbers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ('value', 'number'),
    [
        (5, 5),
        ('5', 5),
        (5.0, 5),
        (-1, -1),
        (10**20, 10**20),
        (5.5, None),
        ('x', None),
        (True, None),
        (None, None),
        ([], None),
        (float('inf'), None),
        ('9' * 5000, None),
    ],
)
def test_size_is_a_whole_number_or_none(value: Any, number: int | None) -> None:
    assert model.File(size=value).size == number


# -- value semantics -------------------------------------------------------------------------------


@pytest.mark.parametrize('kind', RECORDS, ids=lambda kind: kind.__name__)
def test_records_of_equal_fields_are_equal(kind: type[Any]) -> None:
    first, second = kind(hash='a', new=1), kind(hash='a', new=1)
    assert first == second
    assert not first != second  # noqa: SIM202
    assert first != kind(hash='b', new=1)
    assert first != kind(hash='a', new=2)
    assert first != kind(hash='a')
    assert first != 'a'


def test_records_of_different_classes_differ() -> None:
    assert model.Frame(id='1') != model.Bucket(id='1')


def test_unknown_field_equals_the_attribute_of_its_name() -> None:
    first, second = model.Bucket(new=1), model.Bucket()
    second.new = 1  # type: ignore[attr-defined]
    assert first == second


@pytest.mark.parametrize('kind', RECORDS, ids=lambda kind: kind.__name__)
def test_records_are_found_in_a_set_by_value(kind: type[Any]) -> None:
    fields = {kind._identifier: 'a'} if kind._identifier else {}
    first, second = kind(**fields, new=1), kind(**fields, new=1)
    assert {first, second} == {first}
    assert kind(**fields, new=2) not in {first}
    # Not lost in its set by a change of anything but its identifier.
    known = {first}
    first.new = 3
    assert first in known


@pytest.mark.parametrize('identifier', [None, 5, ['a'], {'a': 1}, float('nan')])
def test_record_with_a_strange_identifier_has_a_hash(identifier: Any) -> None:
    assert len({model.Bucket(id=identifier), model.Bucket(id='a')}) == 2


def test_records_of_many_identifiers_have_many_hashes() -> None:
    assert len({hash(model.Bucket(id=str(number))) for number in range(1000)}) > 900


@pytest.mark.parametrize('kind', RECORDS, ids=lambda kind: kind.__name__)
def test_unknown_fields_are_kept_under_every_name(kind: type[Any]) -> None:
    fields = {
        'self': 1,
        'delete': 2,
        'to_dict': 3,
        'keys': 4,
        'get': 5,
        '_client': 6,
        '_extra': 7,
        '_id': 8,
        '__class__': 9,
        '__deepcopy__': 10,
        'brandNew': 11,
        'items': 12,
        'extra': 13,
        '': 14,
    }
    record = kind(**fields)
    assert record.brandNew == 11
    assert {name: record.to_dict()[name] for name in fields} == fields
    assert {name: record[name] for name in fields} == fields
    assert callable(record.to_dict)
    assert getattr(record, '_client', None) is None
    assert type(record) is kind
    copied = pickle.loads(pickle.dumps(record))
    assert copied == record == copy.deepcopy(record)


def test_field_that_is_nowhere_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'Bucket' object has no attribute 'nothing'"):
        _ = model.Bucket().nothing
    with pytest.raises(KeyError):
        _ = model.Bucket()['nothing']
    assert model.Bucket().get('nothing') is None
    assert model.Bucket().get('nothing', 5) == 5
    assert 'nothing' not in model.Bucket()


def test_record_answers_like_the_object_it_came_from() -> None:
    bucket = model.Bucket(id='1', created='2016-11-23T10:15:30.123Z', storage=0, new=[MOMENT])
    wire = {
        'id': '1',
        'created': '2016-11-23T10:15:30.123Z',
        'storage': 0,
        'new': ['2016-11-23T10:15:30.123Z'],
    }
    assert bucket.to_dict() == wire == dict(bucket)
    assert list(bucket) == bucket.keys() == list(wire)
    assert 'created' in bucket
    assert model.Bucket(**bucket.to_dict()).to_dict() == wire


@given(st.dictionaries(st.text(max_size=10), json_values, max_size=6))
def test_any_json_object_becomes_a_record_of_each_kind(fields: dict[str, Any]) -> None:
    for kind in (model.Bucket, model.Contact, model.Token, model.Key, model.User):
        record = kind(**fields)
        repr(record)
        unreadable = {name for name, field in vars(kind).items() if hasattr(field, '__set__')}
        given_ = {name for name, value in fields.items() if value is not None}
        assert set(record.to_dict()) >= given_ - unreadable


@pytest.mark.parametrize(
    ('value', 'text'),
    [('x', 'x'), ('', ''), (5, '5'), (0.5, '0.5'), (True, None), ([], None)],
)
def test_text_is_text_whatever_the_bridge_sends(value: Any, text: str | None) -> None:
    assert model.Bucket(id=value, name=value).name == text
    assert model.File(id=value).id == text


# -- what a record shows ---------------------------------------------------------------------------


def test_repr_shows_names_and_no_secret() -> None:
    secret = 'ab' * 32
    records = [
        model.Token(token=secret, bucket='b', encryptionKey=secret),
        model.Bucket(id='b', name='photos', encryptionKey=secret),
        model.FilePointer(hash='h', token=secret, farmer={'nodeID': 'n', 'token': secret}),
        model.Shard(hash='h', challenges=[secret]),
        model.Bucket(
            password=secret, mnemonic=secret, deep=[{'token': secret, 'a': {'pass': secret}}]
        ),
        model.FileMirrors(established=[{'token': secret}]),
    ]
    for record in records:
        assert secret not in repr(record)
        assert secret not in str(record)
        assert secret not in f'{record}'
    assert "name='photos'" in repr(records[1])


def test_repr_of_huge_fields_is_short() -> None:
    bucket = model.Bucket(name='x' * 10_000, pubkeys=['y' * 10_000] * 1000, deep={'a': 'z' * 9999})
    assert len(repr(bucket)) < 2000


def test_repr_of_deep_fields_ends() -> None:
    deep: Any = []
    for _ in range(5000):
        deep = [deep, {'a': deep}][:1]
    assert len(repr(model.Bucket(deep=deep))) < 500


# -- acting ----------------------------------------------------------------------------------------


class Recorder:
    def __init__(self) -> None:
        self.calls: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **options: self.calls.append((name, args, options))


def test_record_acts_through_the_client_that_made_it() -> None:
    client = Recorder()
    bucket, file = model.Bucket(id='b'), model.File(id='f', bucket='b')
    for record in (bucket, file):
        record._made_by(client)
    bucket.delete()
    file.download('path', start=3)
    file.delete()
    assert client.calls == [
        ('bucket_delete', ('b',), {}),
        ('file_download', ('b', 'f', 'path'), {'start': 3}),
        ('file_remove', ('b', 'f'), {}),
    ]


def test_client_of_a_record_is_seen_nowhere() -> None:
    client = Recorder()
    bucket = model.Bucket(id='b')
    bucket._made_by(client)
    assert bucket == model.Bucket(id='b')
    assert client not in vars(bucket).values()
    assert 'Recorder' not in repr(bucket)
    assert 'client' not in bucket.to_dict()
    travelled = pickle.loads(pickle.dumps(bucket))
    assert travelled == bucket
    assert travelled._client is None


def test_record_made_by_hand_asks_the_factory(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Recorder()
    monkeypatch.setattr(storj_object, '_client_factory', lambda: client)
    model.Bucket(id='b').delete()
    assert client.calls == [('bucket_delete', ('b',), {})]


def test_record_without_client_and_factory_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storj_object, '_client_factory', None)
    with pytest.raises(ClientError, match='no client made this Bucket'):
        model.Bucket(id='b').delete()


def test_steenzout_base_is_used_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib
    import types

    class Foreign:
        def __eq__(self, other: object) -> bool:
            raise AssertionError('the base compares')

        def __ne__(self, other: object) -> bool:
            raise AssertionError('the base compares')

        def __hash__(self) -> int:
            return 1

    module = types.ModuleType('steenzout.object')
    module.Object = Foreign  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, 'steenzout', types.ModuleType('steenzout'))
    monkeypatch.setitem(sys.modules, 'steenzout.object', module)
    spec = importlib.util.find_spec('storj.object')
    assert spec is not None
    assert spec.loader is not None
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)

    class Record(fresh.Record):  # type: ignore[name-defined, misc]
        pass

    assert issubclass(Record, Foreign)
    assert Record(a=1) == Record(a=1)
    assert Record(a=1) != Record(a=2)
    assert {Record(a=1), Record(a=1)} == {Record(a=1)}


def test_record_itself_keeps_fields() -> None:
    assert Record(a=1).a == 1
    assert Record() == Record()


class Note(Record):
    _identifier = ''

    text: Text = Text()
    lines: Field[int] = Field(int, default='1')


class DatedNote(Note):
    date: Time = Time()


def test_fields_of_a_program_are_arguments_in_their_order() -> None:
    note = DatedNote('a', 2, MOMENT, more=3)
    assert (note.text, note.lines, note.date, note.more) == ('a', 2, MOMENT, 3)
    assert note == DatedNote(text='a', lines='2', date=MOMENT, more=3)
    assert (Note().lines, list(inspect.signature(DatedNote).parameters)) == (
        1,
        ['text', 'lines', 'date', 'extra'],
    )


def test_wrong_arguments_of_a_record_are_refused() -> None:
    with pytest.raises(TypeError, match='2 fields, not 3'):
        Note('a', 1, 2)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="two values of 'text'"):
        Note('a', text='b')  # type: ignore[misc]
    with pytest.raises(TypeError, match="no field 'a'"):
        model.Object(a=1)


def test_record_of_a_program_needs_no_constructor_of_ours() -> None:
    class Mine(Object):
        def __init__(self, name: str) -> None:
            self.name = name

    assert Mine('a') == Mine('a') != Mine('b')
    assert repr(Mine('a')).endswith("Mine(name='a')")
    assert dict(Mine('a')) == Mine('a').to_dict() == {'name': 'a'}
    assert pickle.loads(pickle.dumps(model.Object())) == model.Object()


def test_field_without_a_bottom_does_not_hide_the_others() -> None:
    deep: Any = 1
    for _ in range(10_000):
        deep = {'a': [deep]}
    record = model.FilePointer(hash='h', token='t', surprise=deep)
    assert (record.get('hash'), record['token']) == ('h', 't')
    assert 'surprise' in record
    assert repr(record)

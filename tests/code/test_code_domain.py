from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from seqmlm.data.prepare import prepare
from seqmlm.data.report import ReadReport
from seqmlm.data.splits import split_records
from seqmlm.domain import Record
from seqmlm.encoding import Encoding
from seqmlm.errors import CheckpointError, ConfigError, DataError
from seqmlm.masking.policy import MaskingPolicy
from seqmlm_domains.code.domain import CodeDomain
from seqmlm_domains.code.roles import Role
from tests.code.sources import SOURCE, WriteTree


def stored(domain: CodeDomain, text: str, name: str = "a.py") -> np.ndarray:
    return domain.tokenize([Record(name, text, "test", 1)], ReadReport(read=1)).tokens


def units(domain: CodeDomain, encoding: Encoding) -> list[tuple[str, Role]]:
    assert encoding.unit_types is not None
    return [
        (domain.decode(encoding.ids[encoding.unit_ids == unit].tolist()), Role(role))
        for unit, role in enumerate(encoding.unit_types.tolist())
    ]


def test_units_are_whole_identifiers_with_their_roles(domain: CodeDomain) -> None:
    encoding = domain.assemble(
        stored(domain, "def f(caf\u00e9_x):\n    f(caf\u00e9_x.y)\n"), max_length=64
    )
    assert units(domain, encoding) == [
        *(("f", Role.FUNCTION), ("caf\u00e9_x", Role.PARAMETER), ("f", Role.CALL)),
        *(("caf\u00e9_x", Role.READ), ("y", Role.ATTRIBUTE)),
    ]


def test_all_occurrences_of_a_name_are_hidden_together(domain: CodeDomain) -> None:
    """Names of several tokens too, and whatever their roles are."""
    settings = {"per": "unit", "rate": 0.3, "selector": {"name": "occurrences"}}
    policy = MaskingPolicy.from_settings(settings, where="policy")
    encoding = domain.assemble(stored(domain, SOURCE), max_length=1_000)
    names = [name for name, _ in units(domain, encoding)]
    assert names.count("values") == 2
    for seed in range(20):
        masked = policy.apply(
            encoding,
            vocabulary=domain.vocabulary,
            token_range=domain.vocabulary.ranges["code"],
            generator=np.random.default_rng(seed),
        )
        hidden = {names[unit] for unit in encoding.unit_ids[masked.positions]}
        of_hidden = [unit for unit, name in enumerate(names) if name in hidden]
        assert hidden
        expected = np.flatnonzero(np.isin(encoding.unit_ids, of_hidden))
        assert masked.positions.tolist() == expected.tolist()


def test_keywords_literals_and_comments_are_no_units(domain: CodeDomain) -> None:
    encoding = domain.assemble(stored(domain, "return x  # total\n'total'\n1\n"), max_length=64)
    assert units(domain, encoding) == [("x", Role.READ)]


def test_everything_can_be_made_maskable() -> None:
    domain = CodeDomain(vocabulary_size=700, maskable="everything")
    domain.fit_tokenizer([Record("a.py", SOURCE, "test", 1)])
    encoding = domain.assemble(stored(domain, "x = total  # y\n"), max_length=64)
    assert (encoding.unit_ids[1:-1] >= 0).all()
    named = [each for each in units(domain, encoding) if each[1] != Role.OTHER]
    assert named == [("x", Role.VARIABLE), ("total", Role.READ)]


def test_a_windowed_identifier_is_a_unit_of_the_tokens_inside(domain: CodeDomain) -> None:
    name = "unheard_of_name"
    tokens = stored(domain, f"a.{name} = b")
    assert len(tokens) > 8
    for start in range(2, 7):
        encoding = domain.assemble(tokens[start:], max_length=64)
        first, second = units(domain, encoding)
        assert name.endswith(first[0])
        assert first[1] == Role.ATTRIBUTE
        assert second == ("b", Role.READ)


def test_windows_keep_roles_and_come_from_the_generator(domain: CodeDomain) -> None:
    tokens = stored(domain, SOURCE)
    whole = dict(units(domain, domain.assemble(tokens, max_length=1_000)))
    for seed in range(20):
        generator = np.random.default_rng(seed)
        encoding = domain.assemble(tokens, max_length=20, generator=generator)
        assert len(encoding) == 20
        for name, _ in units(domain, encoding)[1:-1]:
            assert name in whole


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("ax_1 \n\t\r.(){}'\"#=:\u00e9\U0001f600"), max_size=50))
def test_decoding_gives_the_normalised_source_back(domain: CodeDomain, text: str) -> None:
    normalised = text.replace("\r\n", "\n").replace("\r", "\n")
    assert (
        domain.decode(domain.token_ids(stored(domain, "x." + text)).tolist()) == "x." + normalised
    )


def test_records_without_identifiers_are_dropped_and_counted(domain: CodeDomain) -> None:
    report = ReadReport(read=3)
    records = [Record("a.py", text, "s.py", 1) for text in ("# only this", " \n", "x")]
    block = domain.tokenize(records, report)
    assert (block.lengths > 0).tolist() == [False, False, True]
    assert report.dropped == {"no identifier": 1, "white space alone": 1}


def test_the_language_of_a_record_is_that_of_its_suffix(domain: CodeDomain) -> None:
    text = "class A { B c; }"
    roles = dict(units(domain, domain.assemble(stored(domain, text, "A.java"), max_length=64)))
    assert roles == {"A": Role.CLASS, "B": Role.TYPE, "c": Role.VARIABLE}


@pytest.mark.parametrize(
    ("text", "visible"),
    [
        ("return <|mask|>.total", "return.total"),
        ("def <|mask|>(x): <|mask|><|mask|> = x", "def (x):  = x"),
        ("x = <|mask|> or y", "x = or y"),
        ("<|mask|> <|mask|>", ""),
        ("<|mask|>", ""),
    ],
)
def test_masks_stand_where_they_were_typed(domain: CodeDomain, text: str, visible: str) -> None:
    encoding = domain.parse(text)
    assert encoding.offsets is not None
    hidden = encoding.ids == domain.vocabulary.special.mask
    spans = encoding.offsets[hidden].tolist()
    assert [text[start:end] for start, end in spans] == ["<|mask|>"] * text.count("<|mask|>")
    assert (encoding.unit_ids[hidden] == -1).all()
    shown = encoding.ids[~hidden].tolist()
    assert domain.decode(shown).replace(" ", "") == visible.replace(" ", "")


def test_a_mask_is_framed_as_the_name_would_be(domain: CodeDomain) -> None:
    text = "def total(values, start=0): return values in start"
    known = domain.parse(text)
    for name in ("values", "start"):
        masked = domain.parse(text.replace(name, "<|mask|>"))
        assert len(masked) == len(known), "the names of this text are one token each"
        same = masked.ids != domain.vocabulary.special.mask
        assert masked.ids[same].tolist() == known.ids[same].tolist()


def test_a_mask_counts_as_a_name_for_the_parser(domain: CodeDomain) -> None:
    assert units(domain, domain.parse("x = <|mask|>.y(z=1)")) == [
        *(("x", Role.VARIABLE), ("y", Role.ATTRIBUTE), ("z", Role.KEYWORD)),
    ]


def test_typed_text_that_is_nothing_or_no_unicode_is_refused(domain: CodeDomain) -> None:
    with pytest.raises(DataError, match="holds no token"):
        domain.parse("")
    with pytest.raises(DataError, match="position 3"):
        domain.parse("a \ud800")


def test_lines_are_where_a_record_may_be_parted(domain: CodeDomain) -> None:
    tokens = stored(domain, SOURCE)
    starts = np.flatnonzero(domain.segment_starts(tokens))
    ids = domain.token_ids(tokens)
    parts = [domain.decode(part.tolist()) for part in np.split(ids, starts[1:])]
    assert [part.strip() for part in parts] == [line.strip() for line in SOURCE.split("\n") if line]


def test_a_tokenizer_of_another_size_or_a_damaged_one_is_refused(
    domain: CodeDomain, tmp_path: Path
) -> None:
    domain.save_tokenizer(tmp_path)
    with pytest.raises(ConfigError, match="vocabulary_size = 700"):
        CodeDomain(vocabulary_size=800).load_tokenizer(tmp_path)
    (tmp_path / "code_tokenizer.json").write_text("{}")
    with pytest.raises(CheckpointError, match="cannot be read"):
        domain.load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("option", "value"),
    [("maskable", "all"), ("language", "rust"), ("split_by", "line"), ("vocabulary_size", 10)],
)
def test_an_option_that_is_not_allowed_is_named(option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=option):
        CodeDomain(**{option: value})  # type: ignore[arg-type]


def module(number: int, *, functions: int = 12) -> str:
    return "\n".join(
        f"def f{number}_{i}(a{number}, b{i * number}):\n    return a{number}.c{i}(b{i * number})\n"
        for i in range(functions)
    )


def test_a_split_keeps_files_and_near_copies_together(
    write_tree: WriteTree, tmp_path: Path
) -> None:
    files = {f"m{number}.py": module(number) for number in range(12)}
    files |= {"copy/m0.py": module(0) + "\nx = 1\n"}
    domain = CodeDomain(vocabulary_size=900, passage_characters=200)
    store = prepare(domain, [str(write_tree(files))], tmp_path / "store")
    document = domain.documents(store)
    assert len(store) > len(files) == len(set(document.tolist()))
    groups = domain.similarity_groups(store)
    by_name = {
        name.partition(" ")[0]: group for name, group in zip(store.names(), groups, strict=True)
    }
    assert by_name["m0.py"] == by_name["copy/m0.py"]
    assert len(set(by_name.values())) == 12
    split = split_records(
        domain,
        store,
        method="cluster",
        sampling="record",
        validation_fraction=0.3,
        validation_records=1_000,
        seed=0,
    )
    assert not set(document[split.train].tolist()) & set(document[split.validation].tolist())
    assert (split.leakage, split.num_too_close) == (0.0, 0)


def test_a_split_by_folder_keeps_top_level_folders_together(
    write_tree: WriteTree, tmp_path: Path
) -> None:
    names = ["a/x.py", "a/deep/y.py", "b/z.py", "top.py", "other.py"]
    files = {name: module(number) for number, name in enumerate(names, start=1)}
    domain = CodeDomain(vocabulary_size=900, passage_characters=10_000, split_by="folder")
    store = prepare(domain, [str(write_tree(files))], tmp_path / "store")
    groups = dict(zip(store.names(), domain.similarity_groups(store).tolist(), strict=True))
    assert groups["a/x.py"] == groups["a/deep/y.py"]
    assert len(set(groups.values())) == 4

"""The declared type of every identifier of a snippet; expected values are set by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from seqmlm.data.report import ReadReport
from seqmlm.domain import Record
from seqmlm.errors import ConfigError
from seqmlm_domains.code.declared_types import DeclaredTypes
from seqmlm_domains.code.domain import CodeDomain
from seqmlm_domains.code.syntax import parse_text
from seqmlm_domains.code.type_vocabulary import TypeVocabulary, count_types


def declared(text: str, language: str) -> list[tuple[str, str]]:
    """Names with their types, in order, those without left out."""
    parsed = parse_text(text, language)
    types = parsed.declared_types
    return [
        (text[start:end], types.names[number])
        for (start, end, _), number in zip(
            parsed.identifiers.tolist(), types.numbers.tolist(), strict=True
        )
        if number >= 0
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("class A { List<String> a; int[] b = a, c; java.util.Map.Entry<K, V> d; }",
         "a:List b:int[] a:List c:int[] d:Entry"),
        ("class A { int size; String size() { return this.size + size() + size; } }",
         "size:int size:String size:int size:String size:int"),
        ("class A { int x; void f(String x) { g(x, this.x); } int h() { return x; } }",
         "x:int f:void x:String x:String x:int h:int x:int"),
        ("class A { void f() { for (Foo q : s) q.go(); for (Bar q : s) q.go(); } }",
         "f:void q:Foo q:Foo q:Bar q:Bar"),
        ("class A { void f(Object... s) { try (In i = s) { } catch (final E e) { throw e; } } }",
         "f:void s:Object[] i:In s:Object[] e:E e:E"),
        ("class A { Object o; void f() { if (o instanceof Foo g) g.h(); var v = o; v.o(); } }",
         "o:Object f:void o:Object g:Foo g:Foo o:Object"),
        ("class A { int x; Runnable f = (x) -> g(x); A() { x = other.x; } }",
         "x:int f:Runnable x:int"),
        ("record A(int x) { int twice() { return x + x; } }", "x:int twice:int x:int x:int"),
    ],
    ids=[
        *("fields", "methods-apart", "shadowing", "loops", "resources", "patterns"),
        *("untyped-parameter", "record"),
    ],
)  # fmt: skip
def test_types_in_java(text: str, expected: str) -> None:
    assert declared(text, "java") == [tuple(pair.split(":")) for pair in expected.split()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("function f(a: string | undefined, b?: Map<K, V>[], {c}: Z): Promise<T> { return a + b }",
         "f:Promise a:string b:Map[] a:string b:Map[]"),
        ("class A { #x: n.T; y = 1; get(): A { return this.#x + this.get() + y + get } }",
         "x:T get:A x:T get:A"),
        ("const z: A | B = f; let w: A = z; { const w = z; g(w) } g(w)", "w:A w:A"),
        ("interface I { p: readonly string[]; m(q: number): void }", "p:string[] m:void q:number"),
    ],
    ids=["parameters", "members", "blocks", "interface"],
)  # fmt: skip
def test_types_in_typescript(text: str, expected: str) -> None:
    for language in ("typescript", "tsx"):
        assert declared(text, language) == [tuple(pair.split(":")) for pair in expected.split()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("def f(a: int, *b: str, c: 'Foo' = 1, d: m.B[int] = a) -> X | None: return c, d",
         "f:X a:int c:Foo d:B a:int c:Foo d:B"),
        ("class A:\n  n: int = 0\n  def f(self, n):\n    self.z: Dict[str, int] = n\n"
         "    return self.n, self.z, other.n, self.f()", "n:int z:Dict n:int z:Dict"),
        ("x: int = 1\nx = 2\ndef f(): return x\ndef g(x): return x\n[x for y in x]",
         "x:int x:int x:int x:int x:int"),
        ("def f(a: int | str, b: Callable[[], int]): return a, b()", "b:Callable b:Callable"),
        ("def f(a: Optional[int], b: t.Optional[m.B], c: Optional[List[int]], d: dict[str, int])"
         ": pass", "a:int b:B c:List d:dict"),
    ],
    ids=["parameters", "members", "scopes", "unions", "optional"],
)  # fmt: skip
def test_types_in_python(text: str, expected: str) -> None:
    assert declared(text, "python") == [tuple(pair.split(":")) for pair in expected.split()]


def test_javascript_declares_no_types() -> None:
    assert declared("function f(a) { const b = a; return this.b }", "javascript") == []


def test_broken_code_keeps_the_types_away_from_the_fault() -> None:
    text = "class A { int x; void f() { x = ; } void g(String s) { s. } int h() { return x; }"
    assert ("h", "int") in declared(text, "java")
    assert declared(text, "java").count(("x", "int")) == 3


def types_of(*names: str | None) -> DeclaredTypes:
    return DeclaredTypes.of([None if name is None else name.encode() for name in names])


def test_frequent_types_get_numbers_and_the_rest_is_unknown() -> None:
    counts: Counter[str] = Counter()
    count_types(counts, types_of("int", "Foo", None, "int", "Bar"))
    count_types(counts, types_of("Bar", "int").part(0, 1))
    assert counts == {"int": 2, "Foo": 1, "Bar": 2}
    types = TypeVocabulary.learn(counts, size=4)
    assert types.names == ("<none>", "<unknown>", "Bar", "int")
    assert types.numbers_of(types_of(None, "int", "Foo", "Bar", "Baz")).tolist() == [0, 3, 1, 2, 1]
    assert types.numbers_of(types_of()).dtype == np.int32


@pytest.mark.parametrize("size", [1, 2**20 + 1, 10.0])
def test_a_type_vocabulary_of_an_impossible_size_is_refused(size: int) -> None:
    with pytest.raises(ConfigError, match="type_vocabulary_size"):
        CodeDomain(type_vocabulary_size=size)


def test_types_survive_storing_windows_and_long_names() -> None:
    text = "class A { Unheard x; String a_name_of_many_tokens; int n = a_name_of_many_tokens; }"
    domain = CodeDomain(vocabulary_size=700, language="java")
    domain.fit_tokenizer([Record("A.java", text, "test", 1)])
    block = domain.tokenize([Record("A.java", text, "test", 1)], ReadReport(read=1))
    assert block.tokens.dtype == np.uint64
    encoding = domain.assemble(block.tokens, max_length=200)
    assert encoding.declared_types is not None
    names = [domain.declared_types[number] for number in encoding.declared_types]
    expected = ["<none>", "<none>", "Unheard", "<none>", "String", "int", "String"]
    assert names == expected
    cut = domain.assemble(block.tokens[4:], max_length=200)
    assert cut.declared_types is not None
    kept = [domain.declared_types[number] for number in cut.declared_types]
    assert kept == expected[-len(kept) :]

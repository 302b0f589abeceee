from __future__ import annotations

import gzip
import io
import os
import socket
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seqmlm.data.report import ReadReport
from seqmlm.domain import Record
from seqmlm.errors import DataError
from seqmlm_domains.protein.reader import read_records

UNIPROT = """\
ID   BLAT_TEST               Reviewed;          12 AA.
AC   P00001; Q9XXX1;
AC   Q9XXX2;
DE   RecName: Full=Made up for a test;
RX   a line that the annotation parser would not understand
CC   -!- FUNCTION: none.
SQ   SEQUENCE   12 AA;  1234 MW;  0000000000000000 CRC64;
     MKTAYIAKQR QI
//
ID   SHORT_TEST              Unreviewed;         3 AA.
AC   P00002;
SQ   SEQUENCE   3 AA;  123 MW;  0000000000000000 CRC64;
     MKW
//
"""


def read(*sources: str | Path) -> tuple[list[Record], ReadReport]:
    report = ReadReport()
    return list(read_records(sources, report)), report


def names_and_sequences(*sources: str | Path) -> list[tuple[str, str]]:
    return [(record.name, record.content) for record in read(*sources)[0]]


def write(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


EXPECTED = [("one", "MKTAYI"), ("two", "WW")]
EQUIVALENT = {
    "LF": b">one first\nMKTAYI\n>two\nWW\n",
    "CRLF": b">one first\r\nMKTAYI\r\n>two\r\nWW\r\n",
    "CR": b">one first\rMKTAYI\r>two\rWW\r",
    "byte-order mark": b"\xef\xbb\xbf>one first\nMKTAYI\n>two\nWW\n",
    "blank lines and spaces": b"\n \n>one first\nMKT\n\nA YI\n\n>two\nWW",
    "several lines": b">one\nM\nKTA\nYI\n>two\nW\nW\n",
    "UTF-8 header": ">one caf\u00e9\nMKTAYI\n>two\nWW\n".encode(),
}


@pytest.mark.parametrize("content", EQUIVALENT.values(), ids=EQUIVALENT)
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_forms_of_the_same_fasta_read_the_same(
    tmp_path: Path, content: bytes, compress: Callable[[bytes], bytes]
) -> None:
    # The suffix says nothing: the content decides.
    assert names_and_sequences(write(tmp_path / "x.data", compress(content))) == EXPECTED


def test_a_record_knows_where_it_came_from(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fasta", EQUIVALENT["LF"])
    records, report = read(path)
    assert records[1] == Record("two", "WW", str(path), 2)
    assert report.read == 2


def test_gzip_of_several_members_is_read_whole(tmp_path: Path) -> None:
    content = gzip.compress(b">one\nMKTAYI\n") + gzip.compress(b">two\nWW\n")
    assert names_and_sequences(write(tmp_path / "x.fasta.gz", content)) == EXPECTED


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_uniprot_entries_are_named_by_their_primary_accession(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    path = write(tmp_path / "x.txt", compress(UNIPROT.encode()))
    assert names_and_sequences(path) == [("P00001", "MKTAYIAKQRQI"), ("P00002", "MKW")]


@pytest.mark.parametrize("can_peek", [True, False])
@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_a_dash_reads_standard_input_and_leaves_it_open(
    monkeypatch: pytest.MonkeyPatch, can_peek: bool, compress: Callable[[bytes], bytes]
) -> None:
    stream = io.BytesIO(compress(EQUIVALENT["LF"]))
    buffer = io.BufferedReader(stream) if can_peek else stream
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=buffer))
    records, _ = read("-")
    assert [(record.name, record.content) for record in records] == EXPECTED
    assert records[0].source == "<stdin>"
    assert not buffer.closed


def test_a_folder_is_searched_in_order_for_known_suffixes(tmp_path: Path) -> None:
    write(tmp_path / "b.fasta", b">b\nM\n")
    write(tmp_path / "a" / "z.FAA.gz", gzip.compress(b">a\nM\n"))
    write(tmp_path / "c.dat", UNIPROT.encode())
    write(tmp_path / "README.txt", b"no sequences here\n")
    (tmp_path / "loop").symlink_to(tmp_path)
    records, report = read(tmp_path)
    assert [record.name for record in records] == ["b", "P00001", "P00002", "a"]
    assert report.notes == {"file without a sequence suffix skipped": 1}


def test_a_pattern_reads_the_files_that_match_in_order(tmp_path: Path) -> None:
    write(tmp_path / "2.fa", b">two\nM\n")
    write(tmp_path / "1.fa", b">one\nM\n")
    write(tmp_path / "sub" / "3.fa", b">three\nM\n")
    assert names_and_sequences(f"{tmp_path}/?.fa") == [("one", "M"), ("two", "M")]
    assert len(names_and_sequences(f"{tmp_path}/**/*.fa")) == 3


def test_a_file_name_with_pattern_characters_is_taken_literally(tmp_path: Path) -> None:
    path = write(tmp_path / "set[1].fa", b">one\nM\n")
    assert names_and_sequences(path) == [("one", "M")]


def test_repeated_names_are_counted_across_files_and_kept(tmp_path: Path) -> None:
    first = write(tmp_path / "1.fa", b">a\nM\n>b\nK\n")
    second = write(tmp_path / "2.fa", b">c\nM\n>a\nW\n>a\nY\n")
    records, report = read(first, second)
    assert len(records) == 5
    assert report.notes == {"name of an earlier record": 2}
    assert report.examples["name of an earlier record"] == [
        f"{second}, record 2",
        f"{second}, record 3",
    ]


def test_a_header_without_a_name_is_numbered_and_noted(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fa", b">\nMK\n>  \nMK\n>ok\nMK\n")
    records, report = read(path)
    assert [record.name for record in records] == ["record 1", "record 2", "ok"]
    assert report.notes == {"header without a name": 2}


def test_a_header_without_a_sequence_is_an_empty_record(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fa", b">a\n>b\nMK\n>c\n")
    assert names_and_sequences(path) == [("a", ""), ("b", "MK"), ("c", "")]


FASTA_64_KB = b"".join(b">P%d\nMKTAYIAKQRQISFVKSHFSRQ\n" % i for i in range(2000))
WHOLE_GZIP = gzip.compress(os.urandom(30_000).hex().encode().join([b">a\n", b"\n"]))

DAMAGED = {
    "empty": ("x.fasta", b"", "0 records"),
    "blank": ("x.fasta", b"\n \r\n\n", "0 records"),
    "empty gzip": ("x.fasta.gz", gzip.compress(b""), "0 records"),
    "empty file named gz": ("x.fasta.gz", b"", "0 records"),
    "no header": ("x.fasta", b"\n\nMKT\n", "line 3 begins with 'MKT"),
    "no header, CR": ("x.fasta", b"\r\rMKT\r", "line 3 begins with 'MKT"),
    "ID without a flat file": ("x.fasta", b"IDENTITY\n", "line 1 begins with 'IDENT'"),
    "truncated gzip": ("x.fasta.gz", WHOLE_GZIP[:-2000], "gzip file ends in the middle"),
    "damaged gzip": ("x.fasta.gz", WHOLE_GZIP[:-8] + b"12345678", "damaged gzip"),
    "garbage in gzip": (
        "x.fasta.gz",
        WHOLE_GZIP[:20] + b"\xff" * 100 + WHOLE_GZIP[120:],
        "damaged gzip",
    ),
    "plain named gz": ("x.fasta.gz", b">a\nMK\n", "named .gz but is not gzip-compressed"),
    "xz": ("x.fasta", b"\xfd7zXZ\0 and more", "xz-compressed"),
    "Latin-1 header": ("x.fasta", b">caf\xe9 au lait\nMK\n", "byte offset 4 (byte 0xe9)"),
    "Latin-1 late": ("x.fasta", FASTA_64_KB + b">\xe9\n", f"byte offset {len(FASTA_64_KB) + 1:,}"),
    "Latin-1 after UTF-8": (
        "x.fasta",
        ">\u00e9\n".encode() + FASTA_64_KB + b">\xe9\n",
        f"byte offset {len(FASTA_64_KB) + 5:,}",
    ),
    "cut UTF-8": ("x.fasta", b">a\nMK\n>b \xc3", "byte offset 9 (byte 0xc3)"),
    "NUL": ("x.fasta", b">a\nM\0K\n", "NUL byte at byte offset 4"),
    "NUL late": ("x.fasta", FASTA_64_KB + b"M\0", f"byte offset {len(FASTA_64_KB) + 1:,}"),
    "UTF-16": ("x.fasta", ">a\nMK\n".encode("utf-16"), "is UTF-16"),
    "UTF-16 without mark": ("x.fasta", ">a\nMK\n".encode("utf-16-le"), "NUL byte at byte offset 1"),
    "flat file cut": ("x.dat", UNIPROT[:-4].encode(), "record 2: not a valid UniProt entry"),
    "flat file cut in the sequence": (
        "x.dat",
        UNIPROT.replace(" QI", "").encode(),
        "record 1 (P00001): the ID line promises 12 residues, the entry has 10",
    ),
    "flat file of DNA": (
        "x.dat",
        b"ID   X56734; SV 1; linear; mRNA; STD; PLN; 1859 BP.\n",
        "record 1: not a valid UniProt entry",
    ),
}


@pytest.mark.parametrize(("name", "content", "says"), DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_file_is_refused_in_one_line_that_names_it(
    tmp_path: Path, name: str, content: bytes, says: str
) -> None:
    path = write(tmp_path / name, content)
    with pytest.raises(DataError) as caught:
        read(path)
    message = str(caught.value)
    assert str(path) in message
    assert says in message
    assert "\n" not in message


def test_a_gzip_bomb_is_refused_before_memory_grows(tmp_path: Path) -> None:
    path = tmp_path / "bomb.fasta.gz"
    with gzip.open(path, "wb") as file:
        file.write(b">a\n")
        for _ in range(64):
            file.write(b"A" * 2**20)
    tracemalloc.start()
    try:
        with pytest.raises(DataError, match="more than 200 times its size"):
            read(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50 * 2**20


def test_a_small_repetitive_gzip_is_no_bomb(tmp_path: Path) -> None:
    content = b">a\n" + b"A" * 2**20
    compressed = gzip.compress(content)
    assert len(content) > 200 * len(compressed)
    assert len(read(write(tmp_path / "x.fa.gz", compressed))[0][0].content) == 2**20


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nothing\.fasta does not exist"):
        read(tmp_path / "nothing.fasta")


def test_a_path_below_a_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fasta", b">a\nM\n")
    with pytest.raises(DataError, match="cannot be read: Not a directory"):
        read(path / "y.fasta")


def test_a_file_without_permission_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not by chmod, which does not stop the superuser.
    def refuse(path: Path, mode: str) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    path = write(tmp_path / "x.fasta", b">a\nM\n")
    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(DataError, match=r"x\.fasta cannot be read: Permission denied"):
        read(path)


def test_a_pattern_without_a_match_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.fa").mkdir()
    with pytest.raises(DataError, match="No file matches the pattern"):
        read(f"{tmp_path}/*.fa")


def test_a_folder_without_sequence_files_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "notes.txt", b">a\nM\n")
    with pytest.raises(DataError, match=r"no sequence file in the folder; looked for \.fasta"):
        read(tmp_path)


def test_a_named_pipe_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.fasta")
    with pytest.raises(DataError, match="is a pipe, socket or device"):
        read(tmp_path / "x.fasta")


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the path of a socket is limited to about 100 characters
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(DataError, match="is a pipe, socket or device"):
            read("s")


def test_a_device_is_refused() -> None:
    with pytest.raises(DataError, match="is a pipe, socket or device"):
        read("/dev/null")


@pytest.mark.parametrize("start", [b"", b">a\n", b"ID   A  Reviewed; 2 AA.\n", b"\x1f\x8b\x08\0"])
@given(content=st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, content: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.fasta"
    path.write_bytes(start + content)
    report = ReadReport()
    try:
        num_records = len(list(read_records([path], report)))
    except DataError:
        return
    assert report.read == num_records > 0


GENE = b"ATGAGTATTCAACATTTCCGTGTCGCCCTTATTCCCTTTTTTGCGGCATT"
LIKE_NUCLEOTIDES = {
    "DNA": GENE,
    "lower case": GENE.lower(),
    "RNA": GENE.replace(b"T", b"U"),
    "unknown bases": GENE[:35] + b"NNNNNNNNNNNNNNN",
    "some ambiguity codes": GENE[:46] + b"RYKM",
    "aligned": GENE[:30] + b"----.." + GENE[30:],
    "thirty letters": GENE[:30],
}


@pytest.mark.parametrize("sequence", LIKE_NUCLEOTIDES.values(), ids=LIKE_NUCLEOTIDES)
def test_dna_and_rna_are_refused_with_the_record_and_the_way_out(
    tmp_path: Path, sequence: bytes
) -> None:
    path = write(tmp_path / "x.fa", b">protein\nMKTAYIAKQR\n>gene\n" + sequence + b"\n")
    with pytest.raises(DataError, match=r"record 2 \(gene\).*Translate.*domain\.nucleotides"):
        read(path)


LIKE_PROTEIN = {
    "fewer letters than tell": GENE[:29].decode(),
    "the most nucleotide-like real protein": (
        "MCCGPCGPCCGPCCGPCCGPCGPCGGGCGPCYGPNVCGPCYACGPCGGCYCGYPCC"
    ),
    "a simple repeat": "GA" * 40,
    "a protein that begins like a gene": GENE.decode() * 4 + "MKRWLFYEDIHQPSVKRWLFYEDIHQPSV" * 3,
}


@pytest.mark.parametrize("sequence", LIKE_PROTEIN.values(), ids=LIKE_PROTEIN)
def test_a_protein_is_not_taken_for_dna(tmp_path: Path, sequence: str) -> None:
    path = write(tmp_path / "x.fa", f">x\n{sequence}\n".encode())
    assert names_and_sequences(path) == [("x", sequence)]


def test_letters_of_dna_are_read_as_protein_on_demand(tmp_path: Path) -> None:
    path = write(tmp_path / "x.fa", b">x\n" + GENE + b"\n")
    (record,) = read_records([path], ReadReport(), nucleotides="read")
    assert record.content == GENE.decode()

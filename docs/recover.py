#!/usr/bin/env python3
"""Restores a database from a vault without pagevault, from docs/format.md alone.

For the day on which no pagevault can be had, and as an independent reading of the format: it shares no code with
the program. It needs Python 3.9 and four packages: cryptography, blake3, zstandard, argon2-cffi.

    python3 recover.py --vault DIR --key-file FILE                          lists the snapshots
    python3 recover.py --vault DIR --key-file FILE --snapshot ID --to FILE  restores one
    python3 recover.py --vectors tests/data/vectors                         runs the test vectors

Instead of --key-file: --recovery-key FILE, or --password-file FILE (its first line). Section numbers below are those
of docs/format.md. Memory grows with the number of chunks in the vault, about 300 bytes for each.
"""

import argparse
import datetime
import hashlib
import json
import os
import struct
import sys

import argon2.low_level
import blake3
import zstandard
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

MAGIC = b"\x89PGV\r\n\x1a\n"
CONFIG, SLOT, PAGE_PACK, METADATA_PACK, INDEX, SNAPSHOTS, LOG = range(1, 8)
SEALED = {PAGE_PACK, METADATA_PACK, INDEX, SNAPSHOTS, LOG}
CHUNK = 65_536
MANIFEST_CLASS = 64
MIB = 1 << 20


class Damaged(Exception):
    """The bytes are not what the format says."""


class Newer(Exception):
    """A number that version 1 does not know, where it must be known."""


class WrongKey(Exception):
    """This key does not open this slot."""


def need(condition, why):
    if not condition:
        raise Damaged(why)


# 1: hashes and encryption


def H(*parts):
    return blake3.blake3(b"".join(parts)).digest()


def keyed(key, data, length=32):
    return blake3.blake3(data, key=key).digest(length=length)


def kdf(context, *material):
    return blake3.blake3(b"".join(material), derive_key_context=context).digest()


def unseal(key, nonce, sealed, associated):
    need(len(sealed) >= 16, "shorter than a tag")
    try:
        return AESGCM(key).decrypt(nonce, sealed, associated)
    except InvalidTag:
        raise Damaged("does not open") from None


def unzstd(frame, length, base=None):
    """One frame of exactly `length` bytes. The length is checked before anything is made of it."""
    dictionary = base and zstandard.ZstdCompressionDict(base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    try:
        reader = zstandard.ZstdDecompressor(dict_data=dictionary or None).stream_reader(frame)
        plain = reader.read(length + 1)
    except zstandard.ZstdError:
        raise Damaged("no zstd frame") from None
    need(len(plain) == length, "a frame of another length")
    return plain


# 1.1: numbers and field lists


class Bytes:
    """A value that is read from front to back and must be used up."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, length):
        need(length <= len(self.data) - self.at, "ends early")
        self.at += length
        return self.data[self.at - length : self.at]

    def number(self, bits=64):
        first = self.take(1)[0]
        if first <= 250:
            return first
        width = {0xFB: 2, 0xFC: 4, 0xFD: 8}.get(first)
        need(width is not None and width * 8 <= max(bits, 16), "not a number of this width")
        value = int.from_bytes(self.take(width), "little")
        need(value < 1 << bits, "a number too large")
        return value

    def signed(self):
        value = self.number()
        return (value >> 1) ^ -(value & 1)

    def u8(self):
        return self.take(1)[0]

    def counted(self):
        return self.take(self.number())

    def text(self, limit=4096):
        data = self.counted()
        need(len(data) <= limit, "a string too long")
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise Damaged("not UTF-8") from None

    def list(self, item, limit=1 << 62):
        count = self.number()
        need(count <= min(limit, len(self.data)), "a count too large")
        return [item(self) for _ in range(count)]

    def end(self):
        need(self.at == len(self.data), "bytes left over")


def value_of(data, read):
    reader = Bytes(data)
    value = read(reader)
    reader.end()
    return value


class Fields:
    """A field list. Fields are taken by tag; what is left must be odd."""

    def __init__(self, data):
        reader = Bytes(data)
        count = reader.number()
        need(count <= 256, "too many fields")
        self.all, last = {}, -1
        for _ in range(count):
            tag = reader.number(16)
            need(tag > last, "tags not ascending")
            self.all[tag] = reader.counted()
            last = tag
        reader.end()
        self.rest = dict(self.all)

    def take(self, tag, read):
        """The value of a field, or None."""
        data = self.rest.pop(tag, None)
        return None if data is None else value_of(data, read)

    def must(self, tag, read):
        need(tag in self.rest, f"field {tag} is missing")
        return self.take(tag, read)

    def raw(self, tag):
        need(tag in self.rest, f"field {tag} is missing")
        return self.rest.pop(tag)

    def finish(self):
        for tag in self.rest:
            if tag % 2 == 0:
                raise Newer(f"field {tag}")


def fixed(length):
    return lambda reader: reader.take(length)


def number(bits=64):
    return lambda reader: reader.number(bits)


def tuple_of(*reads):
    return lambda reader: tuple(read(reader) for read in reads)


def list_of(read, limit=1 << 62):
    return lambda reader: reader.list(read, limit)


# 3: what all objects share


class Header:
    def __init__(self, data):
        need(len(data) >= 72, "shorter than a header")
        need(data[:8] == MAGIC, "not an object of pagevault")
        version, self.kind, flags, self.epoch = struct.unpack_from("<BBHI", data, 8)
        if version != 1:
            raise Newer(f"format version {version}")
        if not CONFIG <= self.kind <= LOG:
            raise Newer(f"kind {self.kind}")
        if flags & 0xFF:
            raise Newer("a critical flag")
        self.vault, self.salt = data[16:32], data[32:64]
        sealed = self.kind in SEALED
        for value in data[64:66]:
            if value > 1:
                raise Newer("key source or cipher suite")
            need(value == sealed, "key source or cipher suite of another kind")
        extension, zero = struct.unpack_from("<HI", data, 66)
        need(zero == 0, "reserved bytes")
        need(sealed == (self.epoch > 0), "epoch")
        need(sealed or self.salt == bytes(32), "salt of an unsealed object")
        need(72 + extension <= len(data), "the extension is longer than the object")
        self.bytes = data[: 72 + extension]
        if extension:
            Fields(data[72 : 72 + extension]).finish()


class Object:
    def __init__(self, data, kind):
        need(len(data) <= 64 * MIB, "too large")
        self.header = Header(data)
        need(self.header.kind == kind, "another kind of object")
        need(len(data) >= 80 and data[-4:] == b"PGVT", "no end")
        length = struct.unpack("<I", data[-8:-4])[0]
        need(length <= 16 * MIB, "trailer too long")
        end = len(data) - 8 - length
        begin = len(self.header.bytes)
        need(end >= begin, "the trailer is longer than the object")
        entries = Fields(data[end:-8])
        body = entries.take(2, tuple_of(number(32), number(32), Bytes.u8))
        self.checksum, self.mac = entries.take(4, fixed(32)), entries.take(6, fixed(32))
        if body and body[2] > 1:
            raise Newer("codec of the body")
        entries.finish()
        self.before_trailer = data[:end]
        expected = {CONFIG: (False, True, True), SLOT: (False, True, False)}.get(kind, (True, False, False))
        present = tuple(entry is not None for entry in (body, self.checksum, self.mac))
        need(present == expected, "entries of another kind's trailer")
        if kind in SEALED:
            self.sealed_len, self.plain_len, self.codec = body
            need(self.plain_len <= 64 * MIB, "body too long")
            begin = end - self.sealed_len
            need(begin >= len(self.header.bytes), "the body is longer than the object")
            if kind not in (PAGE_PACK, METADATA_PACK):
                need(begin == len(self.header.bytes), "records where none belong")
        else:
            need(H(self.before_trailer) == self.checksum, "checksum")
        self.records, self.body, self.body_offset = data[len(self.header.bytes) : begin], data[begin:end], begin


# 5: keys


class Keys:
    def __init__(self, vault, epochs):
        self.vault, self.epochs = vault, epochs

    def derive(self, context, epoch, code):
        need(epoch in self.epochs, "an epoch that the keyring lacks")
        return kdf(context, self.epochs[epoch], self.vault, struct.pack("<I", epoch), bytes([code]))

    def chunk_id(self, epoch, klass, plain):
        return keyed(self.derive("pagevault v1 chunk id", epoch, klass), plain)[:16]

    def config_mac(self, data):
        return keyed(kdf("pagevault v1 config", self.epochs[1], self.vault), data)

    def of_object(self, header):
        need(header.vault == self.vault, "of another vault")
        key = self.derive("pagevault v1 seal", header.epoch, header.kind)
        both = keyed(key, header.bytes, 64)
        return both[:32], both[32:]

    def open_body(self, data, kind):
        """The object and its body, a field list."""
        obj = Object(data, kind)
        _, key = self.of_object(obj.header)
        associated = b"PGVB" + struct.pack("<QIIB", obj.body_offset, obj.sealed_len, obj.plain_len, obj.codec)
        plain = unseal(key, bytes(12), obj.body, associated)
        if obj.codec == 1:
            plain = unzstd(plain, obj.plain_len)
        need(len(plain) == obj.plain_len, "body of another length")
        return obj, plain


# 4: vault config and key slots


def read_config(data):
    obj = Object(data, CONFIG)
    fields = Fields(obj.body)
    for tag, read, only in ((2, number(), CHUNK), (4, number(), 256), (6, Bytes.u8, 16)):
        if fields.must(tag, read) != only:
            raise Newer(f"parameter {tag}")
    fields.take(1, Bytes.signed), fields.take(3, Bytes.text)
    fields.finish()
    return obj


class Slot:
    def __init__(self, data):
        self.object = Object(data, SLOT)
        fields = Fields(self.object.body)
        self.argon2 = fields.take(8, tuple_of(number(32), number(32), number(32)))
        self.sort = fields.must(2, Bytes.u8)
        if self.sort not in (1, 2, 3):
            raise Newer("kind of key slot")
        self.id, self.salt = fields.must(4, fixed(8)), fields.must(6, fixed(32))
        self.sealed, self.commitment = fields.must(10, Bytes.counted), fields.must(12, fixed(32))
        self.note = fields.take(3, tuple_of(number(32), Bytes.counted))
        fields.finish()
        self.fields = fields.all
        need((self.argon2 is not None) == (self.sort == 1), "Argon2id parameters")
        if self.argon2:
            memory, passes, lanes = self.argon2
            need(8192 <= memory <= MIB and 1 <= passes <= 32 and 1 <= lanes <= 16, "Argon2id parameters")
            need(memory * passes <= 8 * MIB, "Argon2id work")
        need(len(self.sealed) <= 16_384, "keyring too long")
        need(self.note is None or len(self.note[1]) <= 8192, "note too long")

    def public(self, tags):
        """The header and some fields, as they were written, as a field list."""
        present = [tag for tag in tags if tag in self.fields]
        encoded = bytes([len(present)])
        for tag in present:
            value = self.fields[tag]
            encoded += bytes([tag]) + varint(len(value)) + value
        return self.object.header.bytes + encoded

    def open(self, sort, key):
        """The keyring, from the passphrase or the 32 bytes of a key."""
        if sort != self.sort:
            raise WrongKey("a key of another sort")
        if sort == 1:
            memory, passes, lanes = self.argon2
            kind = argon2.low_level.Type.ID
            key = argon2.low_level.hash_secret_raw(key, self.salt, passes, memory, lanes, 32, kind, 0x13)
        material = (key, self.object.header.vault, self.id, bytes([sort]), self.salt)
        if kdf("pagevault v1 slot commitment", *material) != self.commitment:
            raise WrongKey("this key does not open this slot")
        wrap = kdf("pagevault v1 slot wrap", *material)
        return read_keyring(unseal(wrap, bytes(12), self.sealed, self.public([2, 4, 6, 8])))

    def open_note(self, epochs):
        if self.note is None:
            return None, None
        epoch, sealed = self.note
        need(epoch in epochs, "an epoch that the keyring lacks")
        key = kdf("pagevault v1 slot note", epochs[epoch], self.object.header.vault, self.id, self.salt)
        fields = Fields(unseal(key, bytes(12), sealed, self.public([2, 4, 6, 8, 10, 12])))
        return fields.take(1, Bytes.text), fields.take(3, Bytes.signed)


def varint(value):
    if value <= 250:
        return bytes([value])
    for mark, width in ((0xFB, 2), (0xFC, 4), (0xFD, 8)):
        if value < 1 << (8 * width):
            return bytes([mark]) + value.to_bytes(width, "little")
    raise ValueError(value)


def read_keyring(data):
    fields = Fields(data)
    epochs = fields.must(2, list_of(tuple_of(number(32), fixed(32))))
    current = fields.must(4, number(32))
    fields.finish()
    numbers = [epoch for epoch, _ in epochs]
    need(numbers[:1] == [1] and numbers == sorted(set(numbers)) and current in numbers, "keyring")
    return dict(epochs)


BECH32 = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"


def read_key_text(text, prefix):
    """The 32 bytes of a key file or recovery key (section 4.2, BIP-350)."""
    lines = [line for line in text.splitlines() if not line.strip().startswith("#")]
    line = "".join("".join(lines).split()).replace("-", "").lower()
    found, one, digits = line.rpartition("1")
    need(one and found.isascii() and all(digit in BECH32 for digit in digits) and len(digits) >= 6, "not a key")
    values = [ord(c) >> 5 for c in found] + [0] + [ord(c) & 31 for c in found]
    values += [BECH32.index(digit) for digit in digits]
    check = 1
    for value in values:
        top = check >> 25
        check = (check & 0x1FFFFFF) << 5 ^ value
        for bit, generator in enumerate((0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)):
            check ^= generator if top >> bit & 1 else 0
    need(check == 0x2BC830A3, "the key's checksum does not match")
    need(found == prefix, "a key of another sort")
    bits = "".join(f"{BECH32.index(digit):05b}" for digit in digits[:-6])
    need(len(bits) == 260, "not 32 bytes")
    return int(bits[:256], 2).to_bytes(32, "big")


# 6: packs


class Record:
    __slots__ = ("path", "header", "number", "offset", "id", "klass", "codec", "depth", "plain", "stored", "base")

    def associated(self):
        head = b"PGVR" + bytes([1, self.header.kind]) + self.header.vault
        head += struct.pack("<IB", self.number, self.klass) + self.id
        return head + struct.pack("<BBII", self.codec, self.depth, self.plain, self.stored) + (self.base or bytes(16))


def plain_limit(klass):
    return CHUNK if klass == 0 else MIB if klass == MANIFEST_CLASS else 4096


def read_directory(header, body, path=None):
    """The records of a pack, from its directory (section 6.2)."""
    fields = Fields(body)
    count = fields.must(2, number(32))
    need(count <= MIB, "too many records")
    columns = {tag: fields.raw(tag) for tag in (4, 6, 8, 10, 12, 14, 16)}
    fields.finish()
    need(len(columns[4]) == 16 * count, "column of ids")
    need(all(len(columns[tag]) == count for tag in (6, 8, 10)), "column of bytes")
    need(max(len(columns[12]), len(columns[14])) <= 9 * count, "column of lengths")
    lengths = [value_of(columns[tag], lambda r: [r.number(32) for _ in range(count)]) for tag in (12, 14)]
    need(len(columns[16]) == 16 * columns[8].count(2), "column of bases")
    records, offset, bases = [], len(header.bytes), 0
    for n in range(count):
        record = Record()
        record.path, record.header, record.number, record.offset = path, header, n, offset
        record.id = columns[4][16 * n : 16 * n + 16]
        record.klass, record.codec, record.depth = columns[6][n], columns[8][n], columns[10][n]
        record.plain, record.stored, record.base = lengths[0][n], lengths[1][n], None
        if not (record.klass <= 8 or record.klass == MANIFEST_CLASS):
            raise Newer(f"class {record.klass}")
        if record.codec > 2:
            raise Newer(f"codec {record.codec}")
        if record.codec == 2:
            record.base = columns[16][16 * bases : 16 * bases + 16]
            bases += 1
            need(1 <= record.depth <= 8 and record.base != record.id, "depth or base of a delta")
        else:
            need(record.depth == 0, "depth without a delta")
        need((record.klass == 0) == (header.kind == PAGE_PACK), "a class of the other kind of pack")
        need(record.plain <= plain_limit(record.klass), "plain length")
        need(16 <= record.stored <= plain_limit(record.klass) + 1024 + 16, "stored length")
        need(record.codec != 0 or record.stored == record.plain + 16, "stored length of a plain record")
        offset += record.stored
        records.append(record)
    return records, offset - len(header.bytes)


def open_pack(keys, data, kind, path=None):
    obj, body = keys.open_body(data, kind)
    records, length = read_directory(obj.header, body, path)
    need(length == len(obj.records), "records do not fill the pack")
    return obj, records


def decode_record(keys, record, sealed, base):
    """The plaintext of a record, proven by its id (section 6.1)."""
    key, _ = keys.of_object(record.header)
    encoded = unseal(key, struct.pack("<QI", record.number, 0), sealed, record.associated())
    if record.codec == 0:
        plain = encoded
    elif record.codec == 1:
        plain = unzstd(encoded, record.plain)
    else:
        need(base is not None, "the base of a delta is missing")
        need(base[:4] != b"\x37\xa4\x30\xec", "a base that may not be one")
        plain = unzstd(encoded, record.plain, base)
    need(len(plain) == record.plain, "plain length")
    need(keys.chunk_id(record.header.epoch, record.klass, plain) == record.id, "chunk id")
    return plain


# 7 and 10: index and log, only for the test vectors: restoring does without


def check_index(body):
    fields = Fields(body)
    entry = tuple_of(fixed(32), number(), Bytes.counted, Bytes.counted)
    for _, length, header_bytes, directory in fields.must(2, list_of(entry, CHUNK)):
        header = Header(header_bytes)
        need(header.kind in (PAGE_PACK, METADATA_PACK), "no pack")
        _, records = read_directory(header, directory)
        need(length <= 64 * MIB and len(header_bytes) + records <= length, "length of a pack")
    fields.take(5, list_of(fixed(32)))
    fields.finish()


SNAPSHOT_LIST, OBJECT_LIST = list_of(fixed(16)), list_of(fixed(32))
ENTRIES = {
    2: [(2, list_of(tuple_of(fixed(16), fixed(16), fixed(32))))],
    4: [(2, SNAPSHOT_LIST)],
    6: [(2, SNAPSHOT_LIST)],
    8: [(2, SNAPSHOT_LIST)],
    10: [(2, SNAPSHOT_LIST)],
    12: [(2, SNAPSHOT_LIST)],
    14: [(2, OBJECT_LIST), (4, Bytes.signed)],
    16: [(2, OBJECT_LIST)],
    18: [(2, OBJECT_LIST)],
    20: [(2, number()), (4, fixed(32)), (6, list_of(tuple_of(fixed(8), fixed(32)))), (8, number(32))],
    22: [(2, OBJECT_LIST)],
    1: [(2, OBJECT_LIST), (4, Bytes.u8)],
    3: [(2, list_of(tuple_of(fixed(16), Bytes.u8)))],
}


def read_log(body):
    """Snapshots that are gone on purpose, and the time: forgotten, aborted, undeleted."""
    fields = Fields(body)
    entries = fields.must(10, list_of(tuple_of(number(16), Bytes.counted), CHUNK))
    fields.must(2, fixed(16))
    sequence, previous = fields.must(4, number()), fields.must(6, fixed(32))
    time = fields.must(8, Bytes.signed)
    fields.finish()
    need(sequence > 0 and (sequence == 1) == (previous == bytes(32)), "sequence")
    events = []
    for kind, payload in entries:
        inside = Fields(payload)
        if kind not in ENTRIES:
            if kind % 2 == 0:
                raise Newer(f"log entry {kind}")
            continue
        values = [inside.must(tag, read) for tag, read in ENTRIES[kind]]
        if kind == 6:
            inside.take(1, Bytes.text)
        inside.finish()
        events.append((kind, values[0]))
    return (time, sequence), events


# 8 and 9: manifests and trees


def height_of(length):
    nodes, height = -(-length // CHUNK), 0
    while nodes > 1 or (nodes == 1 and height == 0):
        nodes, height = -(-nodes // 256), height + 1
    return height


class Manifest:
    def __init__(self, data):
        fields = Fields(data)
        content, self.length = fields.must(10, tuple_of(Bytes.u8, number()))
        geometry = fields.take(12, tuple_of(number(32), number(32)))
        if content > 1:
            raise Newer(f"content {content}")
        need((geometry is not None) == (content == 0), "page size and count")
        if geometry:
            size, count = geometry
            need(512 <= size <= CHUNK and size & (size - 1) == 0, "page size")
            need(size * count == self.length, "length of the image")
        need(self.length <= 1 << 48, "length")
        root = fields.take(14, tuple_of(Bytes.u8, fixed(16)))
        need((root is None) == (self.length == 0), "root")
        need(root is None or root[0] == height_of(self.length), "height")
        self.root = root and root[1]
        fields.must(2, fixed(16)), fields.must(20, fixed(16)), fields.take(18, fixed(16))
        self.name, self.time = fields.must(4, Bytes.text), fields.must(6, Bytes.signed)
        need(self.name, "empty name")
        if fields.must(8, Bytes.u8) not in (1, 2, 3, 4):
            raise Newer("kind of snapshot")
        self.sha256 = fields.take(16, fixed(32))
        for tag in (1, 13, 15):
            fields.take(tag, Bytes.text)
        need(len(fields.take(3, Bytes.counted) or b"") <= 32_768, "path")
        fields.take(17, lambda reader: reader.text(65_536))
        fields.take(19, list_of(tuple_of(Bytes.text, Bytes.text), 1024))
        fields.take(21, list_of(Bytes.text, 1024))
        for tag, read in ((5, Bytes.u8), (7, number(32)), (9, number(32)), (11, fixed(32)), (25, number()), (29, number())):
            fields.take(tag, read)
        fields.take(23, tuple_of(*[number()] * 5)), fields.take(27, tuple_of(number(), number()))
        fields.finish()


def read_manifests(body):
    fields = Fields(body)
    manifests = fields.must(2, list_of(Bytes.counted, CHUNK))
    fields.finish()
    need(all(len(manifest) <= MIB for manifest in manifests), "a manifest too long")
    return manifests


# A whole vault


def read_file(path, offset=0, length=-1):
    with open(path, "rb") as file:
        file.seek(offset)
        return file.read(length)


class Vault:
    def __init__(self, folder, sort, key):
        self.folder, self.keys, problems = folder, None, []
        for path in self.files("keys"):
            try:
                slot = Slot(read_file(path))
                self.keys = Keys(slot.object.header.vault, slot.open(sort, key))
                break
            except (Damaged, Newer, WrongKey) as error:
                problems.append(f"{path}: {error}")
        if self.keys is None:
            sys.exit("\n".join(problems) or f"{folder} holds no key slots")
        for name in ("vault.pv", "vault.pv.copy"):
            try:
                config = read_config(read_file(os.path.join(folder, name)))
                need(config.header.vault == self.keys.vault, "of another vault")
                need(self.keys.config_mac(config.before_trailer) == config.mac, "not written with this vault's key")
                break
            except (Damaged, Newer, OSError) as error:
                print(f"{name}: {error}", file=sys.stderr)
        self.chunks, self.bases = None, {}

    def files(self, *below):
        folder = os.path.join(self.folder, *below)
        for parent, _, names in sorted(os.walk(folder)):
            yield from (os.path.join(parent, name) for name in sorted(names) if not name.startswith("."))

    def objects(self, folder):
        """Bytes of all objects that are whole. What is not, is said and passed over."""
        for path in self.files(folder):
            data = read_file(path)
            if H(data).hex() == os.path.basename(path):
                yield path, data
            else:
                print(f"{path}: its bytes do not hash to its name", file=sys.stderr)

    def gone(self):
        """Snapshots that were forgotten or withdrawn (section 10)."""
        logs, gone = [], set()
        for path, data in self.objects("log"):
            try:
                logs.append(read_log(self.keys.open_body(data, LOG)[1]))
            except (Damaged, Newer) as error:
                print(f"{path}: {error}", file=sys.stderr)
        for _, events in sorted(logs, key=lambda log: log[0]):
            for kind, ids in events:
                if kind in (4, 6):
                    gone.update(ids)
                elif kind == 8:
                    gone.difference_update(ids)
        return gone

    def snapshots(self):
        """(id, epoch, manifest) of all snapshots, oldest first."""
        found, gone = {}, self.gone()
        for path, data in self.objects("snapshots"):
            try:
                obj, body = self.keys.open_body(data, SNAPSHOTS)
                for manifest in read_manifests(body):
                    identity = self.keys.chunk_id(obj.header.epoch, MANIFEST_CLASS, manifest)
                    if identity not in gone:
                        found[identity] = (obj.header.epoch, Manifest(manifest))
            except (Damaged, Newer) as error:
                print(f"{path}: {error}", file=sys.stderr)
        return sorted(((i, e, m) for i, (e, m) in found.items()), key=lambda snapshot: snapshot[2].time)

    def load_packs(self):
        """Where every chunk is, from the packs' own directories: the index is not needed."""
        self.chunks = {}
        for path in self.files("packs"):
            try:
                data = read_file(path)
                obj, records = open_pack(self.keys, data, Header(data).kind, path)
            except (Damaged, Newer) as error:
                print(f"{path}: {error}", file=sys.stderr)
                continue
            for record in records:
                self.chunks.setdefault((obj.header.epoch, record.klass, record.id), []).append(record)

    def chunk(self, epoch, klass, identity, below=9):
        """A chunk's plaintext, from whichever stored form is whole; a base only from forms of smaller depth."""
        forms = sorted(self.chunks.get((epoch, klass, identity), ()), key=lambda record: record.depth)
        why = "nowhere in the packs"
        for record in forms:
            if record.depth >= below:
                break
            try:
                base = record.base and self.base(epoch, klass, record)
                sealed = read_file(record.path, record.offset, record.stored)
                return decode_record(self.keys, record, sealed, base)
            except Damaged as error:
                why = f"record {record.number} of {record.path}: {error}"
        raise Damaged(f"chunk {identity.hex()}: {why}")

    def base(self, epoch, klass, record):
        key = (epoch, klass, record.base, record.depth)
        if key not in self.bases:
            if len(self.bases) > 64:
                self.bases.clear()
            self.bases[key] = self.chunk(epoch, klass, record.base, record.depth)
        return self.bases[key]

    def pieces(self, epoch, manifest):
        """The content of a snapshot, chunk by chunk (section 8)."""

        def walk(identity, level, chunks):
            node = self.chunk(epoch, level, identity)
            below = 256 ** (level - 1)
            need(len(node) == 16 * -(-chunks // below), "a tree node of the wrong size")
            for child in range(len(node) // 16):
                inside = min(below, chunks - child * below)
                if level == 1:
                    yield self.chunk(epoch, 0, node[16 * child : 16 * child + 16])
                else:
                    yield from walk(node[16 * child : 16 * child + 16], level - 1, inside)

        if manifest.root:
            yield from walk(manifest.root, height_of(manifest.length), -(-manifest.length // CHUNK))

    def restore(self, epoch, manifest, target):
        self.load_packs()
        checksum, length = hashlib.sha256(), 0
        with open(target, "xb") as file:
            os.chmod(target, 0o600)
            for piece in self.pieces(epoch, manifest):
                checksum.update(piece)
                length += len(piece)
                file.write(piece)
        need(length == manifest.length, "the restored file has another length")
        need(manifest.sha256 in (None, checksum.digest()), "the restored file has another SHA-256")
        return checksum.hexdigest()


# The test vectors


def shown(data):
    return data.hex() if len(data) <= 64 else "blake3:" + H(data).hex()


def shown_fields(body):
    return {str(tag): shown(value) for tag, value in Fields(body).all.items()}


def vector_object(keys, kind, data):
    outcome = {"outcome": "ok"}
    if kind == CONFIG:
        obj = read_config(data)
        need(keys.config_mac(obj.before_trailer) == obj.mac, "keyed checksum")
        body = obj.body
    elif kind == SLOT:
        body = Slot(data).object.body
    else:
        obj, body = keys.open_body(data, kind)
    if kind in (PAGE_PACK, METADATA_PACK):
        obj, records = open_pack(keys, data, kind)
        plains, outcome["records"] = {}, []
        for record in records:
            try:
                sealed = data[record.offset : record.offset + record.stored]
                plain = decode_record(keys, record, sealed, plains.get(record.base))
                plains[record.id] = plain
                plain = shown(plain)
            except Damaged:
                plain = None
            outcome["records"].append({"id": record.id.hex(), "plain": plain})
    elif kind == INDEX:
        check_index(body)
    elif kind == LOG:
        read_log(body)
    elif kind == SNAPSHOTS:
        outcome["snapshots"] = []
        for manifest in read_manifests(body):
            Manifest(manifest)
            identity = keys.chunk_id(obj.header.epoch, MANIFEST_CLASS, manifest).hex()
            outcome["snapshots"].append({"id": identity, "fields": shown_fields(manifest)})
    outcome["fields"] = shown_fields(body)
    return outcome


SORTS = {"passphrase": 1, "key-file": 2, "recovery-key": 3}
PREFIXES = {"key-file": "pvkey", "recovery-key": "pvrecovery"}


def vector_slot(unlock, data):
    sort, secret = unlock["by"], unlock["secret"]
    key = secret.encode() if sort == "passphrase" else read_key_text(secret, PREFIXES[sort])
    slot = Slot(data)
    epochs = slot.open(SORTS[sort], key)
    label, time = slot.open_note(epochs)
    return {"outcome": "ok", "master_key": epochs[1].hex(), "label": label, "created_at": time}


def vector(keys, entry, data):
    try:
        if "kind" in entry:
            return vector_object(keys, entry["kind"], data)
        if "unlock" in entry:
            return vector_slot(entry["unlock"], data)
        return {"outcome": "ok", "secret": read_key_text(data.decode(), PREFIXES[entry["key_text"]]).hex()}
    except Newer:
        return {"outcome": "newer"}
    except WrongKey:
        return {"outcome": "wrong key"}
    except Damaged:
        return {"outcome": "not a key" if "key_text" in entry else "damaged"}


def run_vectors(folder):
    listed = json.loads(read_file(os.path.join(folder, "vectors.json")))
    keys = Keys(bytes.fromhex(listed["vault"]), {1: bytes.fromhex(listed["master_key"])})
    wrong = 0
    for item in listed["ids"]:
        found = keys.chunk_id(1, item["class"], bytes.fromhex(item["plain"])).hex()
        if found != item["id"]:
            wrong += 1
            print(f"id of class {item['class']}: {found} instead of {item['id']}")
    for entry in listed["vectors"]:
        expected = {key: value for key, value in entry["expect"].items() if key != "says"}
        found = vector(keys, entry, read_file(os.path.join(folder, entry["file"])))
        if found != expected:
            wrong += 1
            print(f"{entry['file']} ({entry['shows']}): {found} instead of {expected}")
    print(f"{len(listed['vectors'])} vectors, {len(listed['ids'])} ids, {wrong} wrong")
    return 1 if wrong else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--vectors", metavar="DIR", help="run the test vectors in DIR")
    parser.add_argument("--vault", metavar="DIR")
    parser.add_argument("--key-file", metavar="FILE")
    parser.add_argument("--recovery-key", metavar="FILE")
    parser.add_argument("--password-file", metavar="FILE")
    parser.add_argument("--snapshot", metavar="ID", help="the beginning of a snapshot's id, or latest")
    parser.add_argument("--to", metavar="FILE", help="the file to make; it must not exist")
    given = parser.parse_args()
    if given.vectors:
        return run_vectors(given.vectors)
    if not given.vault:
        parser.error("--vault is missing")
    if given.password_file:
        sort, key = 1, read_file(given.password_file).split(b"\n")[0].rstrip(b"\r")
    elif given.recovery_key:
        sort, key = 3, read_key_text(read_file(given.recovery_key).decode(), "pvrecovery")
    elif given.key_file:
        sort, key = 2, read_key_text(read_file(given.key_file).decode(), "pvkey")
    else:
        parser.error("one of --key-file, --recovery-key, --password-file is needed")
    vault = Vault(given.vault, sort, key)
    snapshots = vault.snapshots()
    if not given.snapshot:
        for identity, _, manifest in snapshots:
            time = datetime.datetime.fromtimestamp(manifest.time / 1e6, datetime.timezone.utc)
            print(identity.hex(), time.isoformat(), manifest.length, manifest.name)
        return 0
    wanted = [s for s in snapshots if s[0].hex().startswith(given.snapshot)]
    if given.snapshot == "latest":
        wanted = snapshots[-1:]
    if len(wanted) != 1 or not given.to:
        sys.exit(f"{len(wanted)} snapshots begin with {given.snapshot}" if given.to else "--to is missing")
    _, epoch, manifest = wanted[0]
    print(vault.restore(epoch, manifest, given.to), given.to)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Damaged as error:
        sys.exit(f"damaged: {error}")

#!/usr/bin/env python3
"""Writes testdata/data: a small sample of each format, made by the tool that owns it.

Used by crates/data/tests/it/source. Needs `pip install webdataset pyarrow datasets pillow numpy`
(made with webdataset 1.0.2, pyarrow 26.0.1, datasets 5.2.0, Pillow 13.0.0).
"""
import base64
import gzip
import io
import json
import shutil
import tarfile
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import webdataset as wds
from PIL import Image

OUT = Path(__file__).resolve().parents[2] / "testdata" / "data"


def picture(number, ending="jpg", size=(20, 14)):
    """A picture of one colour, by which the test knows it: red is 20 times its number."""
    image = Image.new("RGB", size, (20 * number, 100, 200))
    out = io.BytesIO()
    image.save(out, {"jpg": "JPEG", "png": "PNG", "webp": "WEBP"}[ending], quality=95)
    return out.getvalue()


def packed(path):
    """The same file as .gz and .zst, each by its library."""
    data = path.read_bytes()
    Path(f"{path}.gz").write_bytes(gzip.compress(data, mtime=0))
    Path(f"{path}.zst").write_bytes(pa.compress(data, "zstd", asbytes=True))


def webdataset():
    path = OUT / "pairs.tar"
    with wds.TarWriter(str(path), mtime=0) as sink:
        for i in range(6):
            ending = ["jpg", "png", "webp"][i % 3]
            sink.write({
                "__key__": f"part/{i:05}" if i < 5 else "deep/" * 30 + "ünïcode",
                ending: picture(i, ending),
                "txt": f"picture {i}",
                "json": {"caption": f"caption {i}", "width": 20},
            })
    packed(path)
    for name, format in [("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)]:
        with tarfile.open(OUT / f"long-names-{name}.tar", "w", format=format) as tar:
            tar.addfile(directory("folder"))
            for i in range(2):
                for ending, data in [("jpg", picture(i)), ("some.txt", b"not the caption"), ("txt", b"caption")]:
                    info = tarfile.TarInfo(f"{'long' * 40}/{i}-ä.{ending}")
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))


def directory(name):
    info = tarfile.TarInfo(name)
    info.type = tarfile.DIRTYPE
    return info


def parquet():
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    rows = {
        "image": [{"bytes": picture(i), "path": f"{i}.jpg"} for i in range(10)],
        "text": [f"picture {i}" for i in range(10)],
    }
    datasets.Dataset.from_dict(rows, features=features).to_parquet(OUT / "captioned.parquet", batch_size=3)
    texts = pa.table({"id": list(range(7)), "text": [f"Text number {i}." for i in range(6)] + [None]})
    pq.write_table(texts, OUT / "text.parquet", row_group_size=2, compression="zstd")


def bombs():
    """Small files whose one page unpacks to 4 MiB; the tests make their headers lie."""
    table = pa.table({"text": ["a" * (4 << 20)]})
    for codec in ["zstd", "gzip"]:
        pq.write_table(table, OUT / f"bomb-{codec}.parquet", compression=codec, use_dictionary=False,
                       write_statistics=False, store_schema=False)


def delta():
    """An encoding whose pages say inside how much memory they take."""
    table = pa.table({"text": ["one", "two", "three"]})
    pq.write_table(table, OUT / "delta.parquet", use_dictionary=False, store_schema=False,
                   column_encoding={"text": "DELTA_BYTE_ARRAY"})


def obelics():
    """As the data set's own code has it: at each place either a text or a picture."""
    texts = [[None, "First page.\n\nIts end", None], ["Second page", None], ["No picture"], [None]]
    names = [["0.jpg", None, "deeper/1.png"], [None, "2.jpg"], [None], ["missing.jpg"]]
    pq.write_table(pa.table({"images": names, "texts": texts}), OUT / "obelics-paths.parquet", row_group_size=2)
    cell = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    inside = [[None if n is None else {"bytes": picture(i), "path": n} for i, n in enumerate(row)] for row in names]
    table = pa.table({"images": pa.array(inside, pa.list_(cell)), "texts": pa.array(texts, pa.list_(pa.string()))})
    pq.write_table(table, OUT / "obelics-bytes.parquet", compression="gzip")


def pictures():
    folder = OUT / "pictures"
    (folder / "deeper").mkdir(parents=True)
    for i, name in enumerate(["0.jpg", "deeper/1.png", "2.jpg"]):
        (folder / name).write_bytes(picture(i, name[-3:]))


def lines(name, values):
    path = OUT / name
    path.write_text("".join(json.dumps(value, ensure_ascii=False) + "\n" for value in values))
    return path


def mmc4():
    """Fields as in the released files."""
    def info(name, at):
        return {"image_name": name, "raw_url": "x", "matched_text_index": at, "matched_sim": 0.3}

    lines("mmc4.jsonl", [
        {"url": "x", "text_list": ["One.", "Two.", "Three."], "similarity_matrix": [[0.1]],
         "image_info": [info("2.jpg", 2), info("0.jpg", 0)]},
        {"url": "y", "text_list": ["Both here."], "image_info": [info("0.jpg", 0), info("deeper/1.png", 0)]},
        {"url": "z", "text_list": ["Gone."], "image_info": [info("missing.jpg", 0)]},
        {"url": "w", "text_list": ["Wrong."], "image_info": [info("0.jpg", 1)]},
    ])


def texts():
    packed(lines("text.jsonl", [{"text": f"Text {i} with \"quotes\" and ünïcode\n.", "n": i} for i in range(5)]))


def conversations():
    """As LLaVA's llava_v1_5_mix665k.json, ShareGPT's dumps and OpenAI's fine-tuning files are laid out."""
    llava = [
        {"id": "a", "image": "0.jpg", "conversations": [
            {"from": "human", "value": "<image>\nWhat [is] this, {x}?"}, {"from": "gpt", "value": "A \"picture\"."},
            {"from": "human", "value": "Sure?"}, {"from": "gpt", "value": "Yes."}]},
        {"id": 7, "conversations": [
            {"from": "system", "value": "Be brief."}, {"from": "human", "value": "Is <image> a tag?"},
            {"from": "gpt", "value": "No."}]},
        {"id": "two", "image": ["0.jpg", "deeper/1.png"], "conversations": [
            {"from": "human", "value": "<image> and <image>"}, {"from": "gpt", "value": "Two."}]},
        {"id": "short", "image": ["0.jpg"], "conversations": [
            {"from": "human", "value": "None"}, {"from": "gpt", "value": "x"}]},
    ]
    (OUT / "llava.json").write_text(json.dumps(llava, indent=2))
    url = "data:image/png;base64," + base64.b64encode(picture(4, "png")).decode()
    lines("messages.jsonl", [
        {"messages": [
            {"role": "system", "content": "Be kind."},
            {"role": "user", "content": [{"type": "text", "text": "What?"},
                                         {"type": "image_url", "image_url": {"url": url}},
                                         {"type": "image", "image": "2.jpg"}]},
            {"role": "assistant", "content": "That."}]},
        {"messages": [{"role": "user", "content": "<image>Who?"}, {"role": "assistant", "content": "Me."}],
         "images": ["deeper/1.png"]},
        {"messages": [{"role": "user", "content": [
            {"type": "image_url", "image_url": {"url": "https://example.org/a.jpg"}}]},
            {"role": "assistant", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x"}]},
        {"messages": [{"role": "robot", "content": "x"}]},
    ])


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    pictures()
    webdataset()
    parquet()
    bombs()
    delta()
    obelics()
    mmc4()
    texts()
    conversations()


main()

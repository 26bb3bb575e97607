#!/usr/bin/env python3
"""Writes testdata/eval/sets: a few rows of the benchmarks that come as Parquet, with the columns that their
repositories have.

Used by crates/eval/tests/it/benchmarks. Needs `pip install pyarrow pillow` (made with pyarrow 26.0.1,
Pillow 13.0.0).
"""
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

OUT = Path(__file__).resolve().parents[2] / "testdata" / "eval" / "sets"

PICTURE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])


def picture(shade):
    """A picture of one colour, by which the test knows it: red is 10 times its shade."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (10 * shade, 0, 0)).save(out, "PNG")
    return {"bytes": out.getvalue(), "path": f"{shade}.png"}


def write(name, rows, columns, group=2):
    """Row groups of two, so that a test crosses them."""
    path = OUT / name
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(columns)), path, row_group_size=group)


def mmmu():
    """huggingface.co/datasets/MMMU/MMMU: options and lists of answers are texts, as Python prints them."""
    texts = ["id", "question", "options", "explanation"]
    about = ["img_type", "answer", "topic_difficulty", "question_type", "subfield"]
    pictures = [f"image_{i}" for i in range(1, 8)]
    columns = [(c, PICTURE if c in pictures else pa.string()) for c in texts + pictures + about]

    def row(id, question, options, answer, *shades):
        kind = "multiple-choice" if options else "open"
        row = {"id": id, "question": question, "options": str(options), "answer": answer, "question_type": kind}
        return row | {f"image_{i}": picture(shade) for i, shade in enumerate(shades, 1)}

    write("mmmu/Accounting/validation-00000-of-00001.parquet", [
        row("validation_Accounting_1", "<image 1> What is it's price?", ["$6", "the firm's", "$8"], "B", 1),
        row("validation_Accounting_2", "Compare <image 2> to <image 1>, then <image 2>.", ["<image 3>", "none"], "A", 2, 3, 4),
        row("validation_Accounting_3", "What is the cost?", [], "['1,200', 'twelve hundred']", 5, 6),
    ], columns)
    write("mmmu/Accounting/dev-00000-of-00001.parquet", [
        row("dev_Accounting_1", "<image 1> Which?", ["this", "that"], "A", 7)], columns)
    write("mmmu/Music/validation-00000-of-00001.parquet", [
        row("validation_Music_1", "Name the key of <image 1>.", [], "F major", 8)], columns)
    write("mmmu/Music/dev-00000-of-00001.parquet", [
        row("dev_Music_1", "<image 1> Which?", ["do", "re"], "B", 9)], columns)


def mathvista():
    """huggingface.co/datasets/AI4Math/MathVista."""
    about = pa.struct([("category", pa.string()), ("grade", pa.string()), ("img_height", pa.int64()),
                       ("skills", pa.list_(pa.string())), ("task", pa.string())])
    columns = [("pid", pa.string()), ("question", pa.string()), ("image", pa.string()), ("decoded_image", PICTURE),
               ("choices", pa.list_(pa.string())), ("unit", pa.string()), ("precision", pa.float64()),
               ("answer", pa.string()), ("question_type", pa.string()), ("answer_type", pa.string()),
               ("metadata", about), ("query", pa.string())]

    def row(pid, question, choices, answer, task, **more):
        about = {"category": "general-vqa", "grade": "daily life", "img_height": 8, "skills": ["arithmetic"], "task": task}
        kind = "multi_choice" if choices else "free_form"
        return {"pid": pid, "question": question, "image": f"images/{pid}.jpg", "decoded_image": picture(int(pid)),
                "choices": choices, "answer": answer, "question_type": kind, "metadata": about} | more

    write("mathvista/data/testmini-00000-of-00001-725687bf7a18d64b.parquet", [
        row("1", "How long is it?", None, "1.2", "figure question answering", unit="m", precision=1.0, answer_type="float"),
        row("2", "Which is larger?", ["the left", "the right"], "the right", "geometry problem solving", answer_type="text"),
        row("3", "How many?", None, "3", "figure question answering", answer_type="integer"),
    ], columns)


def ai2d():
    """huggingface.co/datasets/lmms-lab/ai2d."""
    columns = [("question", pa.string()), ("options", pa.list_(pa.string())), ("answer", pa.string()), ("image", PICTURE)]
    write("ai2d/data/test-00000-of-00001.parquet", [
        {"question": "which is the face of a man?", "options": ["a", "b", "g", "i"], "answer": "2", "image": picture(1)},
        {"question": "what eats grass?", "options": ["fox", "hare", "owl", "grass"], "answer": "1", "image": picture(2)},
    ], columns)


mmmu()
mathvista()
ai2d()

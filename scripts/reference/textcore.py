#!/usr/bin/env python3
"""Golden prompts and scores of TextCore from lm-evaluation-harness itself: testdata/eval/textcore.json.

Its own task definitions (the YAML files with their Python helpers) are fed with the small invented sets of
testdata/eval/textcore, each in the format of its release, and made-up answers of a model. Nothing is
downloaded.

    python3 -m venv venv && venv/bin/pip install lm_eval==0.4.13
    venv/bin/python scripts/reference/textcore.py
"""

import json
import pathlib
import random
import re

import lm_eval
from datasets import Dataset, DatasetDict
from lm_eval.api.task import ConfigurableTask
from lm_eval.tasks._yaml_loader import load_yaml

DATA = pathlib.Path(__file__).parents[2] / "testdata/eval/textcore"
TASKS = pathlib.Path(lm_eval.__file__).parent / "tasks"
SHOTS = 2

# What a model might write: right, right in another form, right and more, wrong, right with a space inside.
SAID = [" the bard!", " A.B.B.A", " Pacific. Ocean", " Bacon", "\tSAFFRON "]


def lines(path):
    with open(DATA / path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def whole(path):
    return json.loads((DATA / path).read_text(encoding="utf-8"))


# Each release's records as the loader on Hugging Face hands them to the harness.


def arc(path):
    def record(row):
        choices = row["question"]["choices"]
        choices = {"text": [c["text"] for c in choices], "label": [c["label"] for c in choices]}
        return {"question": row["question"]["stem"], "choices": choices, "answerKey": row["answerKey"]}

    return [record(row) for row in lines(path)]


def piqa(part):
    labels = (DATA / f"piqa/{part}-labels.lst").read_text().split()
    return [{**row, "label": int(label)} for row, label in zip(lines(f"piqa/{part}.jsonl"), labels, strict=True)]


def hellaswag(path):
    return [{**row, "label": str(row["label"])} for row in lines(path)]


def triviaqa(*paths):
    def record(row):
        aliases = [alias.strip() for alias in row["Answer"]["Aliases"]]
        return {"question": row["Question"].strip(), "answer": {"aliases": aliases}}

    return [record(row) for path in paths for row in whole(path)["Data"]]


def webqs(path):
    def record(row):
        target = re.sub(r"^\(list |\)$", "", row["targetValue"])
        found = re.findall(r'\(description (?:"([^"]+?)"|([^)]+?))\)\w*', target)
        return {"question": row["utterance"], "answers": ["".join(answer) for answer in found]}

    return [record(row) for row in whole(path)]


SETS = {
    "arc-e": ("arc/arc_easy.yaml", arc("arc-e/ARC-Easy-Train.jsonl"), arc("arc-e/ARC-Easy-Test.jsonl")),
    "arc-c": ("arc/arc_challenge.yaml", arc("arc-c/ARC-Challenge-Train.jsonl"), arc("arc-c/ARC-Challenge-Test.jsonl")),
    "piqa": ("piqa/piqa.yaml", piqa("train"), piqa("valid")),
    "lambada": ("lambada/lambada_openai.yaml", None, lines("lambada/lambada_test.jsonl")),
    "winogrande": ("winogrande/default.yaml", lines("winogrande/train_xl.jsonl"), lines("winogrande/dev.jsonl")),
    "hellaswag": (
        "hellaswag/hellaswag.yaml",
        hellaswag("hellaswag/hellaswag_train.jsonl"),
        hellaswag("hellaswag/hellaswag_val.jsonl"),
    ),
    "sciq": ("sciq/sciq.yaml", whole("sciq/train.json"), whole("sciq/test.json")),
    "triviaqa": (
        "triviaqa/default.yaml",
        triviaqa("triviaqa/web-train.json", "triviaqa/wikipedia-train.json"),
        triviaqa("triviaqa/web-dev.json", "triviaqa/wikipedia-dev.json"),
    ),
    "webqs": (
        "webqs/webqs.yaml",
        webqs("webqs/webquestions.examples.train.json"),
        webqs("webqs/webquestions.examples.test.json"),
    ),
}


def task(definition, train, test):
    """The harness's task over these documents; demonstrations are the first ones of the split that it would
    draw from.
    """
    config = load_yaml(TASKS / definition)
    evaluated = config.get("test_split") or config["validation_split"]
    splits = {evaluated: Dataset.from_list(test)}
    if train:
        splits[config["training_split"]] = Dataset.from_list(train)
    if "test_split" in config and config.get("validation_split"):
        splits[config["validation_split"]] = splits[evaluated]
    split = config.get("training_split") or evaluated
    config |= {"fewshot_config": {"sampler": "first_n", "split": split}}
    return ConfigurableTask(config=config | {"custom_dataset": lambda **_: DatasetDict(splits)})


def context(task, doc, shots):
    written = task.fewshot_context(doc, shots)
    return written if isinstance(written, list) else [written]


def golden(name, definition, train, test):
    harness, draw = task(definition, train, test), random.Random(name)
    items = []
    for index, doc in enumerate(harness.task_docs):
        written = context(harness, doc, 0)
        requests = harness.construct_requests(doc, written if harness.multiple_input else written[0])
        requests = requests if isinstance(requests, list) else [requests]
        if harness.OUTPUT_TYPE == "generate_until":
            context_, arguments = requests[0].arguments
            item = {"context": context_, "until": arguments["until"], "said": SAID[index]}
            cut = min((SAID[index].find(stop) for stop in item["until"] if stop in SAID[index]), default=None)
            requests[0].resps = [SAID[index][:cut]]
            harness._instances = [requests[0]]
            harness.apply_filters()
            results = [requests[0].filtered_resps["remove_whitespace"]]
        else:
            results = [(round(draw.uniform(-20, -1), 2), draw.random() < 0.3) for _ in requests]
            item = {"requests": [request.arguments[:2] for request in requests]}
            item |= {"log_probs": [r[0] for r in results], "greedy": [r[1] for r in results]}
        items.append(item | {"metrics": harness.process_results(doc, results)})
    metrics = {
        metric: float(harness.aggregation()[metric]([item["metrics"][metric] for item in items]))
        for metric in items[0]["metrics"]
    }
    try:
        shown = context(harness, harness.task_docs[len(items) - 1], SHOTS)
    except AssertionError as error:  # webqs: its answers are indices, which are no text
        shown = str(error)
    return {"task": harness.config.task, "items": items, "metrics": metrics, "shown": shown}


def main():
    found = {name: golden(name, *of) for name, of in SETS.items()}
    path = DATA.with_suffix(".json")
    text = json.dumps({"lm_eval": lm_eval.__version__, "sets": found}, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

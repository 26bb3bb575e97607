#!/usr/bin/env python3
"""Golden scores for crates/eval from independent implementations: testdata/eval/scores.json.

- CIDEr, BLEU, ROUGE-L: pycocoevalcap's.        pip install pycocoevalcap numpy
- Words: pycocoevalcap's PTBTokenizer.          needs Java
- ANLS, relaxed accuracy: the rules of DocVQA's and pix2struct's evaluators, written anew below.
- VQA accuracy: the official rules (GT-Vision-Lab/VQA, PythonEvaluationTools/vqaEvaluation/vqaEval.py),
  written anew below. With `--official PATH/vqaEval.py` the official code itself is run on every case and
  must agree.

    python3 scripts/reference/scores.py [--official PATH]
"""

import argparse
import json
import pathlib
import random
import re

from captions import adversarial
from pycocoevalcap.bleu.bleu_scorer import BleuScorer
from pycocoevalcap.cider.cider_scorer import CiderScorer
from pycocoevalcap.rouge.rouge import Rouge
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

# Ordinary captions, with the punctuation that people write.
CAPTIONS = """
A photo of a small dog face on a red background.
A photo of a large red apple above a small grinning cat, on a light blue background.
A man riding a wave on top of a surfboard.
Two people (one tall) are riding "big" horses - quickly.
A man's dog doesn't like the woman's cat; it can't sleep!
The colour of the grey centre is 3.5 metres.
A black-and-white photo of a t-shirt -- folded.
It's 10:30, isn't it? They're late, we'll wait, I'm sure I'd go and you've won.
The dogs' bowls are full... and the cats' aren't.
A sign that says "stop." and another that says 'go'.
Mr. Smith and Dr. Jones live on Main St. near the U.S. border.
A close up of a clock that reads 5 o'clock.
He cannot see, she's gonna go, they gotta eat and we wanna sleep.
1,000 people paid $5.00 each, 50% off & more.
Red,blue and green balls: 3 of each.
A yes/no question; a 3/4 view of a two-way street.
A group of people standing around in a kitchen, some of them drinking wine!
WHAT?! That is A BIG PIZZA!!!
“Curly quotes” aren’t a problem, it’s fine — really…
A photo of eight o’clock on a flag: Côte d’Ivoire, in Linux 3.2.
A café with a piñata and an Åland flag.
A photo of an O button (blood type) and a 1st place medal.
Mrs. Claus: medium skin tone, and a woman's hat.
A vitamin c. bottle and vitamin c.
The bus no. 5 says no.
Fruit, bread, etc. on a table etc.
A rock 'n' roll band from the '80s or the 1990's.
A tv. and a T.V. set next to the couch.
A tag #1 and a #hashtag for @home by someone_else.
The temperature is -5 degrees, 90° or 5-6 at 100mph and 19.5cm.
AT&T rock&roll R&B b&w
A+ grade, a*b=c, ~ x ^ y | z \\ w
€10 and £3
   spaces    everywhere	and tabs   
wouldn't've can't've more than y'all
don;t dont oclock ma'am mother-in-law's
[a] {b} (c)
word-- --word -word word-
What is this?? ok! really!?
A dog , a cat . And a mouse
The end of the line...
etc.) (etc.
gimme lemme 'tis 'twas 'em 'til 'cause
Sat. Sun. and Mon. in Dec. 2020 at 5 p.m. or 6 a.m.
the sun. the cat.
...
.
☀ and ★ a👍b ♥️
""".strip("\n").split("\n")


def ptb(captions):
    """Words of each caption, by the Java tokenizer."""
    # Whether a caption's last word keeps its full stop can depend on how the next one begins: every next
    # one is `A`.
    words = PTBTokenizer().tokenize({i: [{"caption": c}, {"caption": "A"}] for i, c in enumerate(captions)})
    return [words[i][0] for i in range(len(captions))]


def caption_scores(references, predictions):
    """CIDEr, BLEU and ROUGE-L of the corpus and of each item, from texts that are words with one space
    between.
    """
    scorer = CiderScorer(n=4, sigma=6.0)
    precisions = BleuScorer(n=4)
    for refs, prediction in zip(references, predictions):
        scorer += (prediction, refs)
        precisions += (prediction, refs)
    cider, ciders = scorer.compute_score()
    bleu, bleus = precisions.compute_score(option="closest")
    rouges = [Rouge().calc_score([p], refs) for refs, p in zip(references, predictions)]
    return {
        "cider": 100 * cider,
        "ciders": [100 * s for s in ciders],
        "bleu": [100 * b for b in bleu],
        "bleus": [[100 * b for b in item] for item in zip(*bleus)],
        "rouge": 100 * sum(rouges) / len(rouges),
        "rouges": [100 * r for r in rouges],
    }


def corpus(references, predictions):
    return {"references": references, "predictions": predictions} | caption_scores(references, predictions)


def random_corpus(rng, items, vocabulary):
    def sentence(longest):
        return " ".join(rng.choice(vocabulary) for _ in range(rng.randint(0, longest)))

    def noisy(text):
        return " ".join(w if rng.random() < 0.8 else rng.choice(vocabulary + ["unseen", "word"]) for w in text.split())

    references = [[sentence(14) for _ in range(rng.randint(1, 5))] for _ in range(items)]
    return corpus(references, [noisy(rng.choice(refs)) if rng.random() < 0.9 else sentence(20) for refs in references])


# Every misspelling of the official table is one of these words with one apostrophe missing.
WHOLE = """ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd he'd've he's
how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've needn't not've o'clock oughtn't
'ow's'at shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll somebody's someone'd someone'd've someone'll
someone's something'd something'd've something'll that's there'd there'd've there're there's they'd they'd've they'll they're
they've 'twas wasn't we'd've we've weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll
who's who've why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll you're
you've""".split()
CONTRACTIONS = {w[:i] + w[i + 1 :]: w for w in WHOLE for i, c in enumerate(w) if c == "'"}
CONTRACTIONS["somebody'd"] = "somebodyd"  # sic
DIGITS = {w: str(i) for i, w in enumerate("zero one two three four five six seven eight nine ten".split())} | {"none": "0"}
PUNCTUATION = [";", "/", "[", "]", '"', "{", "}", "(", ")", "=", "+", "\\", "_", "-", ">", "<", "@", "`", ",", "?", "!"]


def normalise(text):
    out = text
    thousands = re.search(r"[0-9],[0-9]", text)
    for p in PUNCTUATION:
        out = out.replace(p, "" if p + " " in text or " " + p in text or thousands else " ")
    out = re.sub(r"\.(?![0-9])", "", out, count=32)
    words = [DIGITS.get(w, w) for w in out.lower().split()]
    return " ".join(CONTRACTIONS.get(w, w) for w in words if w not in ("a", "an", "the"))


def accuracy(prediction, answers):
    answers = [a.replace("\n", " ").replace("\t", " ").strip() for a in answers]
    prediction = prediction.replace("\n", " ").replace("\t", " ").strip()
    if len(answers) < 10:
        return float(normalise(prediction) in map(normalise, answers))
    if len(set(answers)) > 1:
        answers, prediction = [normalise(a) for a in answers], normalise(prediction)
    left_out = [answers[:i] + answers[i + 1 :] for i in range(len(answers))]
    return sum(min(1, others.count(prediction) / 3) for others in left_out) / len(answers)


def vqa_cases(rng):
    pieces = ["a", "The", "two", "none", "dont", "don't", "couldnt've", "Somebody'd", "3.5", "1,000", "yes", "No.", "dog", "cat",
              "red,blue", "red, blue", "t-shirt", "(left)", "what?", "top/left", "u.s.a.", "\tx\n", "É", "“q”", "it's", "oclock",
              "5:30", "$5", "it’s", "...", "ten", "an", "@home", "a.b", "....1"]
    cases = []
    for _ in range(150):
        pool = [" ".join(rng.choice(pieces) for _ in range(rng.randint(1, 3))) for _ in range(rng.randint(1, 4))]
        answers = [rng.choice(pool) for _ in range(rng.choice([10, 10, 10, 1, 2, 5]))]
        prediction = rng.choice(answers + pool)
        prediction = rng.choice([prediction, prediction, prediction.upper(), prediction + ".", "the " + prediction])
        cases.append({"prediction": prediction, "answers": answers, "score": accuracy(prediction, answers)})
    return cases


def edits(a, b):
    """Levenshtein distance."""
    row = range(len(b) + 1)
    for i, x in enumerate(a, 1):
        last, row = row, [i]
        for j, y in enumerate(b, 1):
            row.append(min(last[j] + 1, row[-1] + 1, last[j - 1] + (x != y)))
    return row[-1]


def anls(prediction, answers):
    """ANLS of one question by DocVQA's evaluator."""

    def distance(answer):
        words = [" ".join(text.lower().split()) for text in (answer, prediction)]
        longest = max(len(answer.upper()), len(prediction.upper()))
        return edits(*words) / longest if longest else 0.0

    similarity = 1 - min(map(distance, answers))
    return similarity if similarity >= 0.5 else 0.0


def relaxed(prediction, answers):
    """Relaxed accuracy of one question by pix2struct's evaluator."""

    def number(text):
        try:
            return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
        except ValueError:
            return None

    def correct(answer):
        ours, truth = number(prediction), number(answer)
        if ours is not None and truth:
            return abs(ours - truth) / abs(truth) <= 0.05
        return prediction.lower() == answer.lower()

    return float(any(map(correct, answers)))


def document_case(rng):
    """A prediction near one of a few answers, for ANLS."""
    words = "Coca Cola STRASSE Straße 1,000 $5.00 James O'Neil  Co. January 3rd, É café\u00a0x 12% \t ﬁg".split(" ")
    answers = [" ".join(rng.choice(words) for _ in range(rng.randint(0, 4))) for _ in range(rng.randint(1, 4))]
    prediction = list(rng.choice(answers))
    for _ in range(rng.randint(0, len(prediction) // 2 + 1)):
        at = rng.randint(0, len(prediction))
        prediction[at : at + rng.randint(0, 1)] = rng.choice([[], ["x"], [" "]])
    prediction = "".join(prediction)
    return rng.choice([prediction, prediction.upper(), prediction.lower()]), answers


def chart_case(rng):
    """A prediction near one of a few answers, for relaxed accuracy."""

    def answer():
        number = rng.choice([rng.randint(-20, 20), round(rng.uniform(-3, 300), 2), rng.randint(1900, 2030), 0])
        form = rng.choice(["{}", "{}", "{}", "{}%", "{}%%", " {}", "+{}", "${}", "{}e2", "{:,}", "{}.", "{} %", "1_{}"])
        return rng.choice([form.format(number)] * 3 + ["Yes", "no", "Red", "nan", "inf", "-Infinity", "", "É", "1_000", "1__0", "%"])

    answers = [answer() for _ in range(rng.randint(1, 3))]
    prediction = rng.choice(answers + [answer()])
    try:
        change = rng.choice([0, 0.049, 0.05, 0.0501, -0.05, -0.06])
        near = [str(float(prediction) * (1 + change)), f"{float(prediction) / 100}", f"{float(prediction) * 100}%"]
    except ValueError:
        near = [prediction, prediction.upper(), prediction + " "]
    return rng.choice([prediction, *near]), answers


def check_official(path, texts, cases):
    """Runs the official evaluator, which is Python 2 with tabs, on the same input."""
    source = re.sub(r'^(\s*)print ("[^"]*")', r"\1print(\2)", pathlib.Path(path).read_text(), flags=re.M)
    space = {}
    exec(source, space)

    class Data:
        def __init__(self, qa):
            self.qa = qa

        def getQuesIds(self):
            return list(self.qa)

    def items(answers):
        return [{"answer": a, "answer_id": i} for i, a in enumerate(answers)]

    full = [c for c in cases if len(c["answers"]) >= 10]
    truth = {i: {"answers": items(c["answers"]), "question_type": "", "answer_type": ""} for i, c in enumerate(full)}
    judge = space["VQAEval"](Data(truth), Data({i: {"answer": c["prediction"]} for i, c in enumerate(full)}), n=12)
    assert judge.contractions.items() - {(k, v) for k, v in judge.contractions.items() if k == v or k.lower() != k} \
        <= CONTRACTIONS.items(), "the official table has more"
    print("only in ours:", sorted(CONTRACTIONS.keys() - judge.contractions.keys()))
    for text in texts:
        official = judge.processDigitArticle(judge.processPunctuation(text))
        assert official == normalise(text), (text, official, normalise(text))
    judge.updateProgress = lambda _: None
    judge.evaluate()
    for i, c in enumerate(full):
        assert abs(judge.evalQA[i] / 100 - c["score"]) < 1e-9, (c, judge.evalQA[i])
    print(f"the official evaluator agrees on {len(texts)} texts and {len(full)} items")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--official", help="vqaEval.py of GT-Vision-Lab/VQA")
    official = parser.parse_args().official
    rng = random.Random(5)
    vocabulary = "a an the dog cat red blue small large on of above left photo and with background man woman bike".split()
    captions = ptb(CAPTIONS)
    half = len(CAPTIONS) // 2
    tokenised = corpus([[c] for c in captions[:half]], captions[half : 2 * half])
    tokenised["references"], tokenised["predictions"] = [[c] for c in CAPTIONS[:half]], CAPTIONS[half : 2 * half]
    corpora = [
        random_corpus(rng, 40, vocabulary),
        random_corpus(rng, 7, vocabulary[:6]),
        corpus([["a red dog", "the dog is red"]], ["a red dog"]),
        corpus([["a red dog"], ["a blue cat on a mat"]], ["a red dog", ""]),
        tokenised,
    ]
    cases = vqa_cases(rng)
    words = sorted(CONTRACTIONS.keys() | CONTRACTIONS.values())
    texts = sorted({a for c in cases for a in c["answers"]} | set(words) | set(CAPTIONS) | {"x" + "." * 40})
    if official:
        check_official(official, texts, cases)
    hard = [adversarial(rng) for _ in range(400)]
    documents, charts = [document_case(rng) for _ in range(150)], [chart_case(rng) for _ in range(300)]
    golden = {
        "words": [list(pair) for pair in zip(CAPTIONS + hard, captions + ptb(hard))],
        "corpora": corpora,
        "normalised": [[t, normalise(t)] for t in texts],
        "vqa": cases,
        "anls": [{"prediction": p, "answers": a, "score": anls(p, a)} for p, a in documents],
        "relaxed": [{"prediction": p, "answers": a, "score": relaxed(p, a)} for p, a in charts],
    }
    out = pathlib.Path(__file__).resolve().parents[2] / "testdata/eval/scores.json"
    out.write_text(json.dumps(golden, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(out, out.stat().st_size, "bytes")


if __name__ == "__main__":
    main()

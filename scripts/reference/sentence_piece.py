#!/usr/bin/env python3
"""A small BPE of SentencePiece in every form of tokenizer.json: makes testdata/import/sentence-piece.

    python3 scripts/reference/sentence_piece.py

`tokenizer.json` is in the form of Llama 2. `cases.json` has for each form what differs in the file, texts
with the ids and the text again that transformers makes of them, and conversations with the ids of
`apply_chat_template` and which of them are of an answer: of its characters, of white space before it that is
not written where the answer is asked for, and of the token that ends it.

Needs: pip install transformers tokenizers sentencepiece protobuf
"""

import json
import pathlib
import tempfile

import sentencepiece
from tokenizers import AddedToken, decoders, normalizers, pre_tokenizers
from transformers import LlamaTokenizerFast, PreTrainedTokenizerFast

OUT = pathlib.Path(__file__).parents[2] / "testdata/import/sentence-piece"
CORPUS = ["the cat sat on the mat", "a photo of the red cat", "what is in the photo", "the cat is red  and the mat",
          "[INST] what is it [/INST]", "user and assistant", "on the left of the cat, in it"] * 20

LLAMA2 = ("{% for message in messages %}{% if message['role'] == 'user' %}"
          "{{ bos_token + '[INST] ' + message['content'].strip() + ' [/INST]' }}{% else %}"
          "{{ ' ' + message['content'].strip() + ' ' + eos_token }}{% endif %}{% endfor %}")
ZEPHYR = ("{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + eos_token + '\n' }}{% endfor %}"
          "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}")
PHI3 = ("{% for message in messages %}{{ '<|' + message['role'] + '|>\n' + message['content'] + '<|end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}")
PREPEND = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
PHI = ["<|assistant|>", "<|user|>", "<|end|>"]


def metaspace(scheme, split=False):
    return pre_tokenizers.Metaspace(prepend_scheme=scheme, split=split)


# The normaliser, the pre-tokenizer, tokens that take white space behind them, and the template.
FORMS = {
    "llama2": (PREPEND, None, [], LLAMA2),
    "zephyr": (PREPEND, None, [], ZEPHYR),
    "phi3": (PREPEND, None, PHI, PHI3),
    "first": (None, metaspace("first"), [], LLAMA2),
    "always": (None, metaspace("always"), [], LLAMA2),
    "split": (None, metaspace("always", True), PHI, PHI3),
    "never": (None, metaspace("never"), [], ZEPHYR),
    "replace": (normalizers.Replace(" ", "\u2581"), None, [], LLAMA2),
}
TEXTS = ["the cat", " the cat", "  two  spaces ", "", " ", "caf\u00e9 \u4f60\u597d \U0001f600", "a\n\tb\r\n", "\u2581the\u2581cat",
         "<0x41> and <unk>", "the red cat is in the photo, left of the mat"]
TALKS = [["what is it", "the cat"], [" what\n", "  the mat  ", "and", "\u4f60\u597d"], ["photo", "caf\u00e9\n", "in it", "a"]]


def vocabulary():
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "texts").write_text("\n".join(CORPUS))
        sentencepiece.SentencePieceTrainer.train(
            input=f"{folder}/texts", model_prefix=f"{folder}/spm", model_type="bpe", vocab_size=340, byte_fallback=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False, minloglevel=2,
        )
        return LlamaTokenizerFast(vocab_file=f"{folder}/spm.model", legacy=True, add_prefix_space=True)


def form_of(name):
    normalizer, pre, phi, template = FORMS[name]
    fast = vocabulary()
    fast.add_tokens([AddedToken(token, special=True, normalized=False, rstrip=True) for token in phi], special_tokens=True)
    backend = fast.backend_tokenizer
    backend.normalizer, backend.pre_tokenizer = normalizer, pre
    if name in ("never", "replace"):
        backend.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(tokenizer_object=backend, chat_template=template, bos_token="<s>", eos_token="</s>",
                                   unk_token="<unk>", clean_up_tokenization_spaces=False)


def conversation(fast, talk):
    messages = [{"role": ["user", "assistant"][i % 2], "content": text} for i, text in enumerate(talk)]
    text = fast.apply_chat_template(messages, tokenize=False)
    ends = [fast.eos_token, *PHI[2:]]
    spans = []
    for turn in range(1, len(messages), 2):
        start = len(fast.apply_chat_template(messages[:turn], tokenize=False, add_generation_prompt=True))
        end = min(text.index(e, start) + len(e) for e in ends if e in text[start:])
        spans.append((start, end))
    encoding = fast.backend_tokenizer.encode(text, add_special_tokens=False)
    assert encoding.ids == fast.apply_chat_template(messages)
    learn = [any(start <= at < end for start, end in spans) for at, _ in encoding.offsets]
    asked = fast.apply_chat_template(messages[:-1], add_generation_prompt=True)
    return {"turns": talk, "ids": encoding.ids, "learn": learn, "asked": asked}


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    forms = {}
    for name in FORMS:
        fast = form_of(name)
        file = json.loads(fast.backend_tokenizer.to_str())
        if name == "llama2":
            (OUT / "tokenizer.json").write_text(json.dumps(file, ensure_ascii=False, separators=(",", ":")) + "\n")
        fields = {field: file[field] for field in ("added_tokens", "normalizer", "pre_tokenizer", "decoder")}
        vocab = {token: file["model"]["vocab"][token] for token in FORMS[name][2] if token in file["model"]["vocab"]}
        assert not vocab
        backend = fast.backend_tokenizer
        backend.encode_special_tokens = True
        texts = []
        for text in TEXTS:
            ids = backend.encode(text).ids
            texts.append({"text": text, "ids": ids, "again": fast.decode(ids, skip_special_tokens=True)})
        backend.encode_special_tokens = False
        forms[name] = {"fields": fields, "template": fast.chat_template, "texts": texts,
                       "conversations": [conversation(fast, talk) for talk in TALKS]}
    lines = [f"{json.dumps(name)}: {json.dumps(form, ensure_ascii=False)}" for name, form in forms.items()]
    (OUT / "cases.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


main()

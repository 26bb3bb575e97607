"""Other programs that generate text, each a child process of `bench/generate --model`.

    python bench/others.py transformers FILE.gguf f32|bf16 dynamic|static|compiled THREADS
    python bench/others.py llama.cpp FILE.gguf LIBRARY THREADS

A line on standard input is `BATCH PROMPT NEW PICTURES`, as of our `bench_generate`, and is answered by a
line of JSON: {prefill, decode} in seconds, {processor} seconds of both, and {answers}. Nothing but the
network and the choice of the likeliest token is timed.
"""

import ctypes
import json
import pathlib
import sys
import time


def serve(begin):
    """`begin(prompts, new)` gives a function that takes one token of each sequence, at first the prompts."""
    for line in sys.stdin:
        batch, prompt, new, _ = map(int, line.split())
        step = begin(batch, prompt, new)
        tokens, answers, seconds, processor = None, [], [], [time.process_time()]
        for _ in range(new):
            started = time.perf_counter()
            tokens = step(tokens)
            seconds.append(time.perf_counter() - started)
            processor.append(time.process_time())
            answers.append(list(map(int, tokens)))
        answer = {
            "prefill": seconds[0],
            "decode": sum(seconds[1:]),
            "processor": [processor[1] - processor[0], processor[-1] - processor[1]],
            "answers": list(map(list, zip(*answers))),
        }
        print(json.dumps(answer), flush=True)


def prompts(batch, length, vocab):
    return [[(7919 * i + 104729 * j) % vocab for j in range(length)] for i in range(batch)]


def transformers_side(file, precision, cache, threads):
    import torch
    from transformers import AutoModelForCausalLM, DynamicCache, StaticCache
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.set_num_threads(threads)
    dtype = {"f32": torch.float32, "bf16": torch.bfloat16}[precision]
    file = pathlib.Path(file)
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=dtype).eval()
    vocab = model.config.vocab_size
    step = torch.compile(model.forward, dynamic=False) if cache == "compiled" else model.forward

    def begin(batch, length, new):
        ids = torch.tensor(prompts(batch, length, vocab))
        if cache == "dynamic":
            past = DynamicCache(config=model.config)
        else:
            past = StaticCache(config=model.config, max_cache_len=length + new)
        read = 0

        @torch.inference_mode()
        def next_tokens(tokens):
            nonlocal read
            now = ids if tokens is None else tokens[:, None]
            places = torch.arange(read, read + now.shape[1])
            forward = model.forward if tokens is None else step
            out = forward(input_ids=now, past_key_values=past, use_cache=True, cache_position=places,
                          position_ids=places[None], logits_to_keep=1)
            read += now.shape[1]
            return out.logits[:, -1].argmax(-1)

        return next_tokens

    serve(begin)


class Parameters(ctypes.Structure):
    """`llama_model_params` or `llama_context_params`, of which the first words are known and all are passed
    on; it is longer than either.
    """

    _fields_ = [("words", ctypes.c_uint32 * 128)]


class Batch(ctypes.Structure):
    """`llama_batch`"""

    _fields_ = [
        ("n_tokens", ctypes.c_int32),
        ("token", ctypes.POINTER(ctypes.c_int32)),
        ("embd", ctypes.c_void_p),
        ("pos", ctypes.POINTER(ctypes.c_int32)),
        ("n_seq_id", ctypes.POINTER(ctypes.c_int32)),
        ("seq_id", ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
        ("logits", ctypes.POINTER(ctypes.c_int8)),
    ]


def llama_library(path):
    """llama.cpp's functions, of a folder of its shared libraries or of one library with all of them."""
    path = pathlib.Path(path)
    if path.is_dir():
        # The folder has CPU backends by instruction set, of which ggml takes the machine's best.
        names = ("libggml-base*.so*", "libggml.*so*", "libllama.*so*")
        base, ggml, llama = (next(path.glob(name)) for name in names)
        ctypes.CDLL(str(base), mode=ctypes.RTLD_GLOBAL)
        load = ctypes.CDLL(str(ggml), mode=ctypes.RTLD_GLOBAL).ggml_backend_load_all_from_path
        load.argtypes = [ctypes.c_char_p]
        load(str(path).encode())
        path = llama
    library = ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    pointer = ctypes.c_void_p
    for name, result, arguments in [
        ("llama_model_default_params", Parameters, []),
        ("llama_context_default_params", Parameters, []),
        ("llama_model_load_from_file", pointer, [ctypes.c_char_p, Parameters]),
        ("llama_init_from_model", pointer, [pointer, Parameters]),
        ("llama_model_get_vocab", pointer, [pointer]),
        ("llama_vocab_n_tokens", ctypes.c_int32, [pointer]),
        ("llama_get_memory", pointer, [pointer]),
        ("llama_memory_clear", None, [pointer, ctypes.c_bool]),
        ("llama_batch_init", Batch, [ctypes.c_int32, ctypes.c_int32, ctypes.c_int32]),
        ("llama_decode", ctypes.c_int32, [pointer, Batch]),
        ("llama_get_logits_ith", ctypes.POINTER(ctypes.c_float), [pointer, ctypes.c_int32]),
        ("llama_log_set", None, [pointer, pointer]),
        ("llama_print_system_info", ctypes.c_char_p, []),
    ]:
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def llama_side(file, library, threads):
    import numpy as np

    llama = llama_library(library)
    silent = ctypes.CFUNCTYPE(None, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)(lambda *_: None)
    llama.llama_log_set(silent, None)
    print(llama.llama_print_system_info().decode(), file=sys.stderr)
    model = llama.llama_model_load_from_file(file.encode(), llama.llama_model_default_params())
    vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    settings = llama.llama_context_default_params()
    # n_ctx, n_batch, n_ubatch, n_seq_max; then n_threads and n_threads_batch.
    if list(settings.words[:4]) + list(settings.words[7:9]) != [512, 2048, 512, 1, 4, 4]:
        sys.exit(f"{library}: its llama_context_params are laid out in another way: {list(settings.words[:12])}")
    sequences, longest = 8, 1024
    settings.words[0] = settings.words[1] = sequences * longest
    settings.words[3] = sequences
    settings.words[7] = settings.words[8] = threads
    context = llama.llama_init_from_model(model, settings)
    batch = llama.llama_batch_init(sequences * longest, 0, 1)

    def begin(count, length, new):
        if count > sequences or length + new > longest:
            sys.exit(f"at most {sequences} sequences of {longest} tokens")
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        read = 0

        def next_tokens(tokens):
            nonlocal read
            rows = prompts(count, length, vocab) if tokens is None else [[token] for token in tokens]
            last, place = [], 0
            for sequence, row in enumerate(rows):
                for i, token in enumerate(row):
                    batch.token[place], batch.pos[place] = token, read + i
                    batch.n_seq_id[place], batch.seq_id[place][0] = 1, sequence
                    batch.logits[place] = i + 1 == len(row)
                    place += 1
                last.append(place - 1)
            batch.n_tokens = place
            read += len(rows[0])
            if code := llama.llama_decode(context, batch):
                sys.exit(f"llama_decode gave {code}")
            rows = [llama.llama_get_logits_ith(context, i) for i in last]
            return [np.ctypeslib.as_array(row, (vocab,)).argmax() for row in rows]

        return next_tokens

    serve(begin)


if __name__ == "__main__":
    program, *rest, threads = sys.argv[1:]
    {"transformers": transformers_side, "llama.cpp": llama_side}[program](*rest, int(threads))

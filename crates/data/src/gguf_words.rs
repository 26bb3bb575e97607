//! How texts are cut into words, by the names that llama.cpp has for it (`tokenizer.ggml.pre`).

use serde_json::{Value, json};

/// A way to cut texts into words.
pub(crate) struct GgufWords {
    /// Its names, the usual one first.
    names: &'static [&'static str],
    /// Patterns, each of which cuts what the ones before have left.
    splits: &'static [&'static str],
    /// Whether each digit is a word.
    digits: bool,
    /// Whether GPT-2's pattern follows.
    gpt2: bool,
    /// Whether a word that is a token becomes it, whatever the merges say.
    pub(crate) ignore_merges: bool,
    /// Whether a begin token is put before a text, where the file does not say.
    pub(crate) add_bos: bool,
    /// Whether texts are brought to Unicode's form C before.
    pub(crate) nfc: bool,
}

/// Llama 3's, of which Qwen2's differs by one digit a word.
macro_rules! words_of_llama {
    ($digits:literal) => {
        concat!(
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|",
            $digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )
    };
}

const NONE: GgufWords = GgufWords {
    names: &[],
    splits: &[],
    digits: false,
    gpt2: false,
    ignore_merges: false,
    add_bos: false,
    nfc: false,
};

/// All that are known: those of the models that can be imported, and of their relatives.
const ALL: [GgufWords; 6] = [
    GgufWords { names: &["gpt-2", "phi-2", "olmo", "mpt"], gpt2: true, ..NONE },
    GgufWords {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"],
        digits: true,
        gpt2: true,
        ..NONE
    },
    GgufWords {
        names: &["llama-bpe", "llama3", "llama-v3", "pixtral", "falcon3", "lfm2"],
        splits: &[words_of_llama!(r"\p{N}{1,3}")],
        ignore_merges: true,
        add_bos: true,
        ..NONE
    },
    // The file of these models brings texts to form C, which llama.cpp does not.
    GgufWords {
        names: &["qwen2", "deepseek-r1-qwen", "megrez"],
        splits: &[words_of_llama!(r"\p{N}")],
        nfc: true,
        ..NONE
    },
    GgufWords {
        names: &["tekken"],
        splits: &[concat!(
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|",
            r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|",
            r"\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
        )],
        ignore_merges: true,
        add_bos: true,
        ..NONE
    },
    GgufWords {
        names: &["default"],
        splits: &[
            r"[\p{P}\$\+<=>\^~\|]+",
            r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)",
            r"\p{N}+",
            "[0-9][0-9][0-9]",
        ],
        ..NONE
    },
];

/// The usual names of all that are known, for a message.
pub(crate) fn known() -> String {
    ALL.iter().map(GgufWords::name).collect::<Vec<_>>().join(", ")
}

impl GgufWords {
    /// The one of this name.
    pub(crate) fn of(name: &str) -> Option<&'static Self> {
        // Every pattern is compiled in once: no name of a file makes one.
        const { &ALL }.iter().find(|words| words.names.contains(&name))
    }

    /// The one that a `tokenizer.json` has.
    pub(crate) fn of_file(file: &Value) -> Option<&'static Self> {
        let part = &file["pre_tokenizer"];
        let steps = part["pretokenizers"].as_array().cloned().unwrap_or_else(|| vec![part.clone()]);
        let nfc = file["normalizer"]["type"] == "NFC";
        if !nfc && !file["normalizer"].is_null() {
            return None;
        }
        let merges = file["model"]["ignore_merges"] == json!(true);
        let same = |words: &&Self| {
            words.nfc == nfc && words.ignore_merges == merges && same_steps(&words.steps(), &steps)
        };
        const { &ALL }.iter().find(same)
    }

    /// Its usual name.
    pub(crate) fn name(&self) -> &'static str {
        self.names[0]
    }

    /// The part of a `tokenizer.json`.
    pub(crate) fn pre_tokenizer(&self) -> Value {
        let mut steps = self.steps();
        if steps.len() == 1 { steps.remove(0) } else { json!({"type": "Sequence", "pretokenizers": steps}) }
    }

    fn steps(&self) -> Vec<Value> {
        let split = |pattern: &&str| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let mut steps: Vec<_> = self.splits.iter().map(split).collect();
        if self.digits {
            steps.push(json!({"type": "Digits", "individual_digits": true}));
        }
        steps.push(json!({
            "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": self.gpt2,
        }));
        steps
    }
}

/// Whether both cut alike: offsets are no part of it.
fn same_steps(own: &[Value], others: &[Value]) -> bool {
    let plain = |step: &Value| {
        let mut step = step.clone();
        if step["type"] == "ByteLevel" {
            // Old files leave out what is true by default.
            let regex = step["use_regex"] != json!(false);
            step["use_regex"] = json!(regex);
            step["trim_offsets"] = json!(true);
        }
        step
    };
    own.len() == others.len() && own.iter().zip(others).all(|(own, other)| plain(own) == plain(other))
}

//! GGUF files of PyPI's `gguf` and of our own (scripts/reference/gguf_files.py).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use burn::tensor::Device;
use mm1_model::gguf::{
    self, GgufFile, GgufLanguageModel, MetadataValue, StoredTokenizer, TensorSpec, TensorType,
};
use mm1_model::import::lm::{self, ImportedLm};
use mm1_model::init::Init;
use mm1_model::lm::{Lm, LmConfig};
use mm1_model::rope::RopeScaling;
use mm1_model::verify::Golden;
use mm1_model::weights::{self, Named};
use safetensors::SafeTensors;

use crate::case;
use crate::import::data;

const FAMILIES: [&str; 3] = ["llama", "qwen2", "qwen3"];

fn file(name: &str) -> PathBuf {
    data(&format!("gguf/{name}"))
}

fn opened(name: &str) -> ImportedLm {
    lm::open(&file(&format!("{name}.gguf"))).unwrap()
}

fn made(imported: ImportedLm) -> Lm {
    let config = imported.config.clone();
    imported.fit(Lm::new(&Init::new(0, &Device::flex()), &config), &config).unwrap()
}

/// Floats and bytes of the reference, by name.
fn reference(name: &str) -> Vec<u8> {
    let bytes = fs::read(file("blocks.safetensors")).unwrap();
    SafeTensors::deserialize(&bytes).unwrap().tensor(name).unwrap().data().to_vec()
}

#[test]
fn blocks_of_every_type_are_the_reference_s_to_the_bit() {
    let blocks = GgufFile::open(&file("blocks.gguf")).unwrap();
    assert_eq!(blocks.tensors.len(), TensorType::ALL.len());
    for kind in TensorType::ALL {
        let tensor = &blocks.tensors[kind.name()];
        assert_eq!((tensor.tensor_type, &*tensor.shape), (kind, &[2, 256][..]));
        let values = tensor.read().unwrap();
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert!(bytes == reference(kind.name()), "{}", kind.name());
        assert!(values.iter().any(|&value| value != values[0]), "{}", kind.name());
    }
}

#[test]
fn floats_become_the_reference_s_blocks_to_the_byte() {
    let folder = tempfile::tempdir().unwrap();
    let bytes = reference("floats");
    let floats: Vec<f32> = bytes.as_chunks().0.iter().map(|&b| f32::from_le_bytes(b)).collect();
    for tensor_type in [TensorType::F16, TensorType::BF16, TensorType::Q8_0, TensorType::F32] {
        let path = folder.path().join("a.gguf");
        let spec = TensorSpec { name: "a".to_owned(), shape: vec![2, 256], tensor_type };
        gguf::write(&path, &[], &[spec], |writer| writer.put(&floats)).unwrap();
        let mut stored = Vec::new();
        let found = GgufFile::open(&path).unwrap();
        found.tensors["a"].bytes(|piece| stored.extend_from_slice(piece)).unwrap();
        let name = format!("written.{}", tensor_type.name());
        assert!(
            stored == if tensor_type == TensorType::F32 { bytes.clone() } else { reference(&name) },
            "{name}"
        );
    }
    let refused = |values: [f32; 32], tensor_type: TensorType| {
        let spec = TensorSpec { name: "w".to_owned(), shape: vec![32], tensor_type };
        let path = folder.path().join("b.gguf");
        let done = gguf::write(&path, &[], &[spec], |writer| writer.put(&values));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left of it");
        format!("{:#}", done.unwrap_err())
    };
    let large = refused([1e6; 32], TensorType::F16);
    assert!(large.ends_with(
        "b.gguf can't be written: the tensor `w`: a value of 1e6 is beyond F16: take BF16 or F32"
    ));
    assert!(refused([f32::NAN; 32], TensorType::Q8_0).ends_with("a value is no number: take F32"));
    assert!(
        refused([0.0; 32], TensorType::Q4_0)
            .ends_with("Q4_0 can be read, not written: take F32, F16, BF16 or Q8_0")
    );
}

#[test]
fn logits_are_those_of_the_same_weights_in_transformers() {
    for name in FAMILIES {
        let lm = made(opened(name));
        let golden = Golden::open(&file(&format!("{name}.golden.safetensors"))).unwrap();
        let found = golden.compare(&case::cpu(), &lm).unwrap();
        assert!(found.max_relative <= 1e-5 && found.top1 == Some(1.0), "{name}: {found:?}");
    }
}

#[test]
fn shapes_are_those_of_the_metadata() {
    let llama = opened("llama").config;
    assert_eq!((llama.vocab, llama.dim, llama.layers, llama.ffn), (Some(40), 32, 2, 32));
    assert_eq!((llama.heads, llama.kv_heads, llama.head_width, llama.tied), (4, 2, None, false));
    let RopeScaling::Llama3 { factor, .. } = llama.rope_scaling else { panic!("{llama:?}") };
    // What is an f32 in the file is the decimal that it was made of.
    assert_eq!((factor, llama.rope_base, llama.norm_eps), (8.0, 500_000.0, 1e-5));
    let (qwen2, qwen3) = (opened("qwen2").config, opened("qwen3").config);
    assert_eq!((qwen2.qkv_bias, qwen2.qk_norm, qwen2.tied), (true, false, true));
    assert_eq!((qwen3.qkv_bias, qwen3.qk_norm, qwen3.head_width, qwen3.tied), (false, true, Some(8), false));
}

#[test]
fn a_folder_with_one_file_is_that_file() {
    let folder = tempfile::tempdir().unwrap();
    fs::copy(file("qwen3.gguf"), folder.path().join("a.gguf")).unwrap();
    assert_eq!(lm::open(folder.path()).unwrap().config, opened("qwen3").config);
    fs::copy(file("qwen3.gguf"), folder.path().join("b.GGUF")).unwrap();
    let error = lm::open(folder.path()).err().unwrap().to_string();
    assert!(error.ends_with(": it has 2 GGUF files: name the one that is meant"), "{error}");
    let text = folder.path().join("a.txt");
    fs::write(&text, "a").unwrap();
    let error = lm::open(&text).err().unwrap().to_string();
    assert!(error.ends_with("a.txt: not a Hugging Face folder, and no .gguf file"), "{error}");
}

/// A tokenizer of so many tokens.
fn tokenizer(tokens: usize) -> StoredTokenizer {
    StoredTokenizer {
        model: "gpt2".to_owned(),
        pre: Some("gpt-2".to_owned()),
        tokens: (0..tokens).map(|i| format!("t{i}")).collect(),
        token_types: vec![1; tokens],
        merges: vec!["t1 0".to_owned()],
        special_ids: BTreeMap::from([("eos".to_owned(), 2)]),
        switches: BTreeMap::from([("add_bos_token".to_owned(), false)]),
        chat_template: Some("{{ messages }}".to_owned()),
        ..StoredTokenizer::default()
    }
}

fn write(path: &Path, (lm, config): (&Lm, &LmConfig), matrices: TensorType) -> anyhow::Result<()> {
    let tokenizer = tokenizer(config.vocab() - 3);
    let model = GgufLanguageModel { lm, config, tokenizer: &tokenizer, name: "a", context: 64, matrices };
    gguf::write_language_model(path, &model)
}

fn bits(named: &[Named]) -> Vec<(&str, &[usize], Vec<u32>)> {
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect();
    named.iter().map(|(path, shape, values)| (path.as_str(), shape.as_slice(), bits(values))).collect()
}

#[test]
fn an_export_is_imported_with_every_bit() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["llama", "qwen2", "qwen3"] {
        let path = folder.path().join("a.gguf");
        let config = opened(name).config;
        let lm = made(opened(name));
        write(&path, (&lm, &config), TensorType::F32).unwrap();
        let back = lm::open(&path).unwrap();
        assert_eq!(back.config, config);
        assert_eq!(bits(&weights::parameters(&made(back))), bits(&weights::parameters(&lm)), "{name}");
        let stored = StoredTokenizer::of(&GgufFile::open(&path).unwrap()).unwrap();
        let own = tokenizer(config.vocab() - 3);
        assert_eq!(stored.tokens[..own.tokens.len()], own.tokens);
        assert_eq!(stored.token_types[own.tokens.len()..], [5; 3], "rows without a token have an unused one");
        let kept =
            StoredTokenizer { tokens: own.tokens.clone(), token_types: own.token_types.clone(), ..stored };
        assert_eq!(kept, own);
    }
}

#[test]
fn exports_of_less_precision_are_near() {
    let folder = tempfile::tempdir().unwrap();
    let (config, lm) = (opened("llama").config, made(opened("llama")));
    let golden = Golden::open(&file("llama.golden.safetensors")).unwrap();
    for (matrices, most, bytes) in
        [(TensorType::F16, 2e-3, 40_000), (TensorType::BF16, 2e-2, 40_000), (TensorType::Q8_0, 3e-2, 22_000)]
    {
        let path = folder.path().join("a.gguf");
        write(&path, (&lm, &config), matrices).unwrap();
        let len = fs::metadata(&path).unwrap().len();
        assert!(len < bytes, "{} takes {len} bytes", matrices.name());
        let found = golden.compare(&case::cpu(), &made(lm::open(&path).unwrap())).unwrap();
        assert!(found.max_relative < most, "{}: {found:?}", matrices.name());
    }
}

#[test]
fn what_llama_cpp_has_no_decoder_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let refused = |config: &LmConfig| {
        let lm = Lm::new(&Init::new(0, &Device::flex()), config);
        format!("{:#}", write(&path, (&lm, config), TensorType::F32).unwrap_err())
    };
    let both = LmConfig { qk_norm: true, ..opened("qwen2").config };
    assert_eq!(refused(&both), "llama.cpp has no decoder with qkv_bias and qk_norm");
    let stretched = LmConfig { rope_scaling: opened("llama").config.rope_scaling, ..opened("qwen3").config };
    assert_eq!(refused(&stretched), "llama.cpp's qwen3 has no rope_scaling of Llama 3");
}

/// The `llama.gguf` of the reference with other metadata or tensors, in F32.
fn changed(
    change: impl Fn(&mut BTreeMap<String, MetadataValue>, &mut BTreeMap<String, (Vec<usize>, Vec<f32>)>),
) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let GgufFile { mut metadata, tensors } = GgufFile::open(&file("llama.gguf")).unwrap();
    let read =
        |(name, tensor): (String, gguf::GgufTensor)| (name, (tensor.shape.clone(), tensor.read().unwrap()));
    let mut tensors: BTreeMap<_, _> = tensors.into_iter().map(read).collect();
    change(&mut metadata, &mut tensors);
    let specs: Vec<_> = tensors
        .iter()
        .map(|(name, (shape, _))| TensorSpec {
            name: name.clone(),
            shape: shape.clone(),
            tensor_type: TensorType::F32,
        })
        .collect();
    let metadata: Vec<_> = metadata.into_iter().collect();
    gguf::write(&path, &metadata, &specs, |writer| {
        tensors.values().try_for_each(|(_, values)| writer.put(values))
    })
    .unwrap();
    let error = lm::open(&path).err().map_or("it was imported".to_owned(), |error| format!("{error:#}"));
    assert!(!error.contains('\n'), "{error}");
    error.replace(&path.display().to_string(), "FILE")
}

#[test]
fn settings_that_are_unknown_or_not_ours_are_refused_by_name() {
    let set = |key: &str, value: MetadataValue| {
        changed(|metadata, _| {
            metadata.insert(key.to_owned(), value.clone());
        })
    };
    let text = |text: &str| MetadataValue::Text(text.to_owned());
    assert_eq!(set("general.author", text("a")), "it was imported");
    assert_eq!(set("llama.expert_count", MetadataValue::u32(0)), "it was imported");
    assert_eq!(
        set("general.architecture", text("gemma3")),
        "FILE: general.architecture = \"gemma3\": only language models of these can be imported: llama, \
         qwen2, qwen3"
    );
    assert_eq!(
        set("llama.attn_logit_softcapping", MetadataValue::f32(50.0)),
        "FILE: llama.attn_logit_softcapping = 50: this setting is not known, so the model can't be imported"
    );
    assert_eq!(
        set("llama.expert_count", MetadataValue::u32(8)),
        "FILE: llama.expert_count = 8: only 0 can be imported"
    );
    assert_eq!(
        set("llama.attention.sliding_window", MetadataValue::u32(4096)),
        "FILE: llama.attention.sliding_window = 4096: only 0 can be imported"
    );
    assert_eq!(
        set("llama.rope.scaling.type", text("yarn")),
        "FILE: llama.rope.scaling.type = \"yarn\": only \"none\" and \"linear\" can be imported, and Llama \
         3's by its tensor"
    );
    assert_eq!(
        set("llama.rope.dimension_count", MetadataValue::u32(4)),
        "FILE: llama.rope.dimension_count = 4: only the width of a head, 8, can be imported"
    );
    assert_eq!(
        set("llama.vocab_size", MetadataValue::u32(41)),
        "FILE: llama.vocab_size = 41, but the embedding has 40 rows"
    );
    assert_eq!(
        set("split.count", MetadataValue::u32(3)),
        "FILE: it is one of 3 parts: join them by `llama-gguf-split --merge`, which is llama.cpp's"
    );
    assert_eq!(
        set("llama.feed_forward_length", MetadataValue::i32s([32, 16])),
        "FILE: llama.feed_forward_length: blocks of different sizes can't be imported"
    );
    assert_eq!(set("llama.feed_forward_length", MetadataValue::i32s([32, 32])), "it was imported");
    let missing = changed(|metadata, _| drop(metadata.remove("llama.block_count")));
    assert_eq!(missing, "FILE: llama.block_count is missing");
}

#[test]
fn tensors_that_do_not_fit_are_refused_with_both_shapes() {
    let missing = changed(|_, tensors| drop(tensors.remove("blk.1.attn_k.weight")));
    assert_eq!(missing, "FILE: `blk.1.attn_k.weight` [16, 32] is missing");
    let extra =
        changed(|_, tensors| drop(tensors.insert("blk.0.attn_q.bias".to_owned(), (vec![32], vec![0.0; 32]))));
    let says = "FILE: 1 tensors have no place in the language model of its settings, \
         such as `blk.0.attn_q.bias` [32]";
    assert_eq!(extra, says);
    let other = changed(|_, tensors| {
        drop(tensors.insert("blk.0.ffn_up.weight".to_owned(), (vec![16, 64], vec![0.0; 1024])));
    });
    assert_eq!(other, "FILE: `blk.0.ffn_up.weight` is [16, 64], but by its settings [32, 32]");
    let factors = changed(|_, tensors| {
        drop(tensors.insert("rope_freqs.weight".to_owned(), (vec![4], vec![1.0, 2.0, 1.5, 1.0])));
    });
    assert!(factors.contains("`rope_freqs.weight` has factors that are not those of Llama 3"), "{factors}");
}

/// A container by hand.
struct Hostile(Vec<u8>);

impl Hostile {
    fn new(tensors: u64, values: u64) -> Self {
        let mut bytes = b"GGUF\x03\0\0\0".to_vec();
        bytes.extend(tensors.to_le_bytes());
        bytes.extend(values.to_le_bytes());
        Self(bytes)
    }

    fn text(mut self, text: &[u8]) -> Self {
        self.0.extend((text.len() as u64).to_le_bytes());
        self.0.extend(text);
        self
    }

    fn u32(mut self, value: u32) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(mut self, value: u64) -> Self {
        self.0.extend(value.to_le_bytes());
        self
    }

    /// An F32 tensor of these sides.
    fn tensor(self, name: &str, sides: &[u64], offset: u64) -> Self {
        let named = self.text(name.as_bytes()).u32(sides.len() as u32);
        sides.iter().fold(named, |file, &side| file.u64(side)).u32(0).u64(offset)
    }

    /// The end of the header, and so many bytes behind it.
    fn data(mut self, bytes: usize) -> Self {
        self.0.resize(self.0.len().next_multiple_of(32) + bytes, 0);
        self
    }
}

#[test]
fn hostile_files_are_refused_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.gguf");
    let refuse = |file: Hostile, says: &str| {
        fs::write(&path, file.0).unwrap();
        let error = format!("{:#}", GgufFile::open(&path).unwrap_err());
        let file = format!("{}: not a GGUF file that can be read: ", path.display());
        assert!(error.starts_with(&file) && !error.contains('\n'), "{error}");
        assert!(error.contains(says), "{error}\nwithout\n{says}");
    };
    let value = |key: &str| Hostile::new(0, 1).text(key.as_bytes());
    refuse(Hostile(Vec::new()), "it does not begin with \"GGUF\"");
    refuse(Hostile(b"GGUF\0\0\0\x03".to_vec()), "its numbers are big-endian");
    refuse(Hostile(b"GGUF\x01\0\0\0".to_vec()), "it is of version 1; only 2 and 3 can be read");
    refuse(Hostile::new(u64::MAX, 0), "there are 18446744073709551615 tensors, more than it has");
    refuse(Hostile::new(0, 1 << 60), "values of metadata, more than it has");
    refuse(Hostile::new(0, 1).u64(60_000).data(64), "cut short: 60000 more bytes are needed");
    refuse(
        Hostile::new(0, 1).u64(u64::MAX).data(64),
        "a text of 18446744073709551615 bytes; the limit is 65535",
    );
    refuse(Hostile::new(0, 1).text(b"\xff\xfe").data(64), "a text that is not UTF-8");
    refuse(value("a").u32(99).data(64), "\"a\": a value of type 99, which is not known");
    refuse(value("a").u32(9).u32(9).u64(1).data(64), "\"a\": a list of lists");
    refuse(value("a").u32(9).u32(4).u64(u64::MAX / 2).data(64), "values, more than it has");
    refuse(value("a").u32(9).u32(10).u64(9).data(32), "\"a\": it is cut short: 72 more bytes");
    refuse(value("a").u32(7).u32(9).data(64), "\"a\": 9 in place of true or false");
    let twice = Hostile::new(0, 2).text(b"a").u32(4).u32(0).text(b"a").u32(4).u32(0);
    refuse(twice, "it has \"a\" twice");
    refuse(value("general.alignment").u32(4).u32(24), "general.alignment = 24 is not a power of two");
    refuse(
        Hostile::new(1, 0).tensor("a", &[8], 0).data(16),
        "the tensor `a` needs 32 bytes from 0 on, and 16",
    );
    refuse(Hostile::new(1, 0).tensor("a", &[8], 64).data(96), "begins 64 bytes behind the header, not 0");
    let overlap = Hostile::new(2, 0).tensor("a", &[16], 0).tensor("b", &[8], 32);
    refuse(overlap.data(96), "the tensor `b` begins 32 bytes behind the header, not 64");
    let twins = Hostile::new(2, 0).tensor("a", &[8], 0).tensor("a", &[8], 32);
    refuse(twins.data(64), "it has the tensor `a` twice");
    refuse(Hostile::new(1, 0).tensor("a", &[1 << 32, 1 << 32, 4], 0).data(64), "can't be");
    refuse(Hostile::new(1, 0).tensor("a", &[0], 0).data(64), "its sides [0] can't be");
    refuse(Hostile::new(1, 0).text(b"a").u32(1 << 30).data(64), "it has 1073741824 sides; at most 4");
    let odd = Hostile::new(1, 0).text(b"a").u32(1).u64(33).u32(8).u64(0);
    refuse(odd.data(64), "its rows of 33 are not of whole blocks of 32, as Q8_0 has them");
    let kind = Hostile::new(1, 0).text(b"a").u32(1).u64(32).u32(39).u64(0);
    refuse(kind.data(64), "the tensor \"a\": its type is number 39 (FP4); only F32, F16");
    refuse(Hostile::new(1, 0).tensor("a", &[8], 0).data(96), "64 bytes are left behind its last tensor");
    let whole = Hostile::new(1, 0).tensor("a", &[8], 0).data(32);
    fs::write(&path, whole.0).unwrap();
    assert_eq!(GgufFile::open(&path).unwrap().tensors["a"].read().unwrap(), [0.0; 8]);
}

#[test]
fn a_tokenizer_is_read_as_it_was_written() {
    let of = |name: &str| StoredTokenizer::of(&GgufFile::open(&file(name)).unwrap()).unwrap();
    let (words, pieces) = (of("words.gguf"), of("pieces.gguf"));
    assert_eq!(
        (words.model.as_str(), words.pre.as_deref(), words.tokens.len()),
        ("gpt2", Some("smollm"), 261)
    );
    assert_eq!(
        (&*words.merges, words.token_types[2], &*words.tokens[260]),
        (&["a b", "ab c"].map(str::to_owned)[..], 4, "abc")
    );
    assert_eq!(
        (words.special_ids["bos"], words.special_ids["eos"], words.switches["add_bos_token"]),
        (1, 2, false)
    );
    assert_eq!(words.chat_template.as_deref(), Some("{{ messages }}"));
    assert_eq!(
        (pieces.model.as_str(), pieces.scores[263], &*pieces.tokens[263]),
        ("llama", -263.0, "\u{2581}ab")
    );
}

#[test]
fn a_tokenizer_that_is_not_whole_is_refused_by_its_key() {
    let of = |keys: &[(&str, MetadataValue)]| {
        let metadata = keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
        let found = StoredTokenizer::of(&GgufFile { metadata, tensors: BTreeMap::new() });
        format!("{:#}", found.unwrap_err())
    };
    let model = ("tokenizer.ggml.model", MetadataValue::Text("gpt2".to_owned()));
    let tokens = ("tokenizer.ggml.tokens", MetadataValue::Texts(vec!["a".to_owned()]));
    assert_eq!(of(&[]), "tokenizer.ggml.model is missing: the file has no tokenizer");
    assert_eq!(
        of(std::slice::from_ref(&model)),
        "tokenizer.ggml.tokens is missing: the file has no vocabulary"
    );
    let types = ("tokenizer.ggml.token_type", MetadataValue::i32s([1, 1]));
    assert_eq!(
        of(&[model.clone(), tokens.clone(), types]),
        "tokenizer.ggml.token_type has 2 values for 1 tokens"
    );
    let eos = ("tokenizer.ggml.eos_token_id", MetadataValue::u32(7));
    assert_eq!(
        of(&[model.clone(), tokens.clone(), eos]),
        "tokenizer.ggml.eos_token_id = 7, but there are 1 tokens"
    );
    let odd = ("tokenizer.ggml.precompiled_charsmap", MetadataValue::i32s([1]));
    let says = "tokenizer.ggml.precompiled_charsmap: it is not known, so the tokenizer can't be read";
    assert_eq!(of(&[model, tokens, odd]), says);
}

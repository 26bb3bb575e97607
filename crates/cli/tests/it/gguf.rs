//! GGUF files in a recipe.

use std::fs;
use std::path::{Path, PathBuf};

use mm1_model::gguf::{self, GgufFile, GgufTensor, MetadataValue, TensorSpec, TensorType};

use crate::{TINY, mm1, succeeds};

/// A GGUF file of the reference's tiny Qwen3 with a tokenizer of more ids than it has rows. Matrices are of
/// the type `matrices`, where their rows are of whole blocks.
pub(crate) fn gguf_file(folder: &Path, matrices: TensorType) -> PathBuf {
    let reference = |name: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/import/gguf");
        GgufFile::open(&folder.join(name)).unwrap()
    };
    let (model, words) = (reference("qwen3.gguf"), reference("words.gguf"));
    let turn = "{% for m in messages %}{{ '<a>' + m['role'] + ' ' + m['content'] + '<b>' }}{% endfor %}\
                {% if add_generation_prompt %}{{ '<a>assistant ' }}{% endif %}";
    let mut metadata = model.metadata;
    metadata.extend(words.metadata.into_iter().filter(|(key, _)| key.starts_with("tokenizer.")));
    metadata.insert("tokenizer.chat_template".to_owned(), MetadataValue::Text(turn.to_owned()));
    let tensors = model.tensors;
    let spec = |(name, tensor): (&String, &GgufTensor)| TensorSpec {
        name: name.clone(),
        shape: tensor.shape.clone(),
        tensor_type: match tensor.shape[..] {
            [_, row] if row.is_multiple_of(matrices.block()) => matrices,
            _ => TensorType::F32,
        },
    };
    let specs: Vec<_> = tensors.iter().map(spec).collect();
    let path = folder.join("model.gguf");
    gguf::write(&path, &metadata.into_iter().collect::<Vec<_>>(), &specs, |writer| {
        tensors.values().try_for_each(|tensor| writer.put(&tensor.read()?))
    })
    .unwrap();
    path
}

#[test]
fn a_run_begins_with_a_gguf_file_its_tokenizer_and_its_template() {
    let dir = tempfile::tempdir().unwrap();
    let (model, run) = (gguf_file(dir.path(), TensorType::F32), dir.path().join("run"));
    let tiny = fs::read_to_string(TINY).unwrap();
    let own = "[tokenizer]\nkind = \"bpe\"\nvocab = 320\ndocuments = 40\n";
    let shape = "[model.lm]\ndim = 16\nlayers = 1\nheads = 2\nkv_heads = 1\nffn = 32\n";
    assert!(tiny.contains(own) && tiny.contains(shape));
    let text = tiny.replace(own, "").replace(shape, &format!("[model.lm]\nfrom = {model:?}\n"));
    let file = dir.path().join("recipe.toml");
    fs::write(&file, text).unwrap();
    let steps = ["stage.encoder.steps=1", "stage.pretrain.steps=1", "stage.sft.steps=1"];
    let edits = steps.into_iter().flat_map(|edit| ["--set", edit]).collect::<Vec<_>>();
    let arguments = ["run", file.to_str().unwrap(), "--out", run.to_str().unwrap()];
    succeeds(&mm1(&arguments).args(edits).output().unwrap());
    let settings = fs::read_to_string(run.join("tokenizer_config.json")).unwrap();
    assert!(settings.contains("<a>assistant "), "{settings}");
    let plan = fs::read_to_string(run.join("plan.toml")).unwrap();
    assert!(plan.contains("chat = \"template\"") && plan.contains("model.gguf"), "{plan}");
    // What the run keeps is enough to talk with it.
    let words = mm1(&["chat", "--run", run.to_str().unwrap(), "a"]).output().unwrap();
    succeeds(&words);
}

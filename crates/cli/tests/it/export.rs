//! `mm1 export --format hf`, and recipes that ask for a stock form.

use std::fs;
use std::path::Path;

use mm1_model::gguf::{GgufFile, MetadataValue};
use mm1_model::weights::Named;
use serde_json::Value;

use crate::{TINY, mm1, run, stderr, succeeds};

/// What makes the tiny recipe an Idefics3, with few steps.
const STOCK: [&str; 14] = [
    "--set",
    "export=idefics3",
    "--set",
    "model.vision.activation=gelu-tanh",
    "--set",
    "model.connector.bias=false",
    "--set",
    "model.vision.image_size=32",
    "--set",
    "stage.encoder.steps=1",
    "--set",
    "stage.pretrain.steps=1",
    "--set",
    "stage.sft.steps=1",
];

fn json(path: &Path) -> Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

fn export(run: &Path, out: &Path, more: &[&str]) -> std::process::Output {
    let arguments = ["export", run.to_str().unwrap(), "--out", out.to_str().unwrap()];
    mm1(&arguments).args(more).output().unwrap()
}

#[test]
fn a_stock_model_is_written_with_all_that_transformers_reads() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("run"), dir.path().join("stock"));
    succeeds(&run(&root, &STOCK));
    let done = export(&root, &out, &["--format", "hf", "--json"]);
    succeeds(&done);
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&said["form"], &said["proof"]["picture"]), (&"idefics3".into(), &0.0.into()), "{said}");

    let config = json(&out.join("config.json"));
    assert_eq!(config["architectures"][0], "Idefics3ForConditionalGeneration");
    assert_eq!((&config["scale_factor"], &config["vision_config"]["image_size"]), (&2.into(), &64.into()));
    let pictures = json(&out.join("preprocessor_config.json"));
    assert_eq!(
        (&pictures["do_resize"], &pictures["max_image_size"]["longest_edge"]),
        (&false.into(), &32.into())
    );
    assert_eq!(json(&out.join("processor_config.json"))["image_seq_len"], 4);
    assert!(!out.join("modeling_mm1.py").exists());

    let tokenizer = json(&out.join("tokenizer.json"));
    let added = tokenizer["added_tokens"].as_array().unwrap();
    let id =
        |name: &str| added.iter().find(|token| token["content"] == name).map(|token| token["id"].clone());
    assert_eq!(id("<image>"), Some(config["image_token_id"].clone()));
    for mark in ["<fake_token_around_image>", "<global-img>", "<end_of_utterance>"] {
        // They are a part of the vocabulary of 320 that the recipe asks for.
        assert!(id(mark).unwrap().as_u64().unwrap() < 320, "{mark}");
    }
    assert!(fs::read_to_string(out.join("chat_template.jinja")).unwrap().contains("<|assistant|>"));
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    for part in ["CC-BY 4.0", "scene-vqa", "export = \"idefics3\"", "AutoProcessor"] {
        assert!(card.contains(part), "{part}: {card}");
    }

    let again = export(&root, &out, &["--format", "hf"]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("it is there already"), "{}", stderr(&again));
}

/// What transformers and llama.cpp cut and write is what training saw.
#[test]
fn a_stock_model_with_tiles_goes_out_and_back_in() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("run"), dir.path().join("stock"));
    let tiles = ["--set", "stage.sft.tiling={kind=\"idefics3\",longest=2}", "--set", "stage.sft.steps=20"];
    succeeds(&run(&root, &[&STOCK[..], &tiles].concat()));
    succeeds(&export(&root, &out, &["--format", "hf"]));
    let pictures = json(&out.join("preprocessor_config.json"));
    assert_eq!(
        [&pictures["do_resize"], &pictures["do_image_splitting"], &pictures["size"]["longest_edge"]],
        [&Value::from(true), &true.into(), &64.into()]
    );
    let tokenizer = json(&out.join("tokenizer.json"));
    let added = tokenizer["added_tokens"].as_array().unwrap();
    assert!(added.iter().any(|token| token["content"] == "<row_2_col_2>" && token["special"] == true));
    assert!(tokenizer["model"]["vocab"]["\u{10a}\u{10a}"].is_number());
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(card.contains("tiles of 32x32 pixels, 2 along its longer side"), "{card}");
    let gguf = dir.path().join("m.gguf");
    succeeds(&export(&root, &gguf, &["--format", "gguf"]));
    let beside = GgufFile::open(&dir.path().join("mmproj-m.gguf")).unwrap();
    assert_eq!(beside.metadata["clip.vision.preproc_image_size"], MetadataValue::u32(64));

    // Read again it cuts the same tiles: its answers are those of the run.
    let picture = dir.path().join("picture.png");
    crate::picture(picture.clone(), 90, [200, 40, 40]);
    let [root_name, folder, picture] = [&root, &out, &picture].map(|path| path.to_str().unwrap());
    let about = ["--image", picture];
    assert_eq!(answer(["--model", folder], &about), answer(["--run", root_name], &about));
    let smaller = [about[0], about[1], "--image-size", "16"];
    assert_eq!(answer(["--model", folder], &smaller), answer(["--run", root_name], &smaller));
    let plan = trained_on(&out, &dir.path().join("on"));
    assert_eq!(plan["settled"]["recipe"]["image"]["tiling"]["longest"].as_integer(), Some(2), "{plan}");
    // The stage before saw each picture as one.
    let before = dir.path().join("before");
    succeeds(&export(&root, &before, &["--format", "hf", "--stage", "pretrain"]));
    assert_eq!(json(&before.join("preprocessor_config.json"))["do_image_splitting"], false);
}

/// What the model of a run or of a folder answers.
fn answer(from: [&str; 2], more: &[&str]) -> Value {
    let talk = ["chat", from[0], from[1], "--max-tokens", "16", "--json"];
    let done = mm1(&talk).args(more).arg("what is it?").output().unwrap();
    succeeds(&done);
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    serde_json::from_str::<Value>(text.lines().last().unwrap()).unwrap()["answer"].clone()
}

/// The plan of the tiny recipe, trained on from `model` in the folder `on`.
fn trained_on(model: &Path, on: &Path) -> toml::Table {
    let recipe = on.with_extension("toml");
    recipe_from(model, &recipe);
    let few = ["--set", "stage.pretrain.steps=1", "--set", "stage.sft.steps=1"];
    let rest = ["--unset", "stage.few-shot", "--unset", "stage.encoder"];
    let start = ["run", recipe.to_str().unwrap(), "--out", on.to_str().unwrap()];
    succeeds(&mm1(&start).args(few).args(rest).output().unwrap());
    fs::read_to_string(on.join("plan.toml")).unwrap().parse().unwrap()
}

/// The tiny recipe from `[model] from`, without what that settles.
fn recipe_from(model: &Path, file: &Path) {
    let mut tree: toml::Table = fs::read_to_string(TINY).unwrap().parse().unwrap();
    tree.remove("tokenizer");
    let from = toml::Value::from(model.to_str().unwrap());
    tree.insert("model".to_owned(), toml::Table::from_iter([("from".to_owned(), from)]).into());
    fs::write(file, toml::to_string(&tree).unwrap()).unwrap();
}

#[test]
fn what_was_exported_goes_back_in() {
    let dir = tempfile::tempdir().unwrap();
    let own = ["--set", "model.connector={kind=\"c-abstractor\", tokens=4, dim=16, depth=1}"];
    let steps = ["--set", "stage.sft.steps=40", "--unset", "stage.few-shot", "--unset", "stage.encoder"];
    let picture = dir.path().join("picture.png");
    crate::picture(picture.clone(), 32, [200, 40, 40]);
    for (name, form) in [("stock", &STOCK[..8]), ("own", &own[..])] {
        let (root, out) = (dir.path().join(format!("{name}-run")), dir.path().join(name));
        succeeds(&run(&root, &[form, &steps[..]].concat()));
        succeeds(&export(&root, &out, &["--format", "hf"]));

        // Its model answers with the same words, about a picture and without one.
        let [run_folder, folder] = [&root, &out].map(|path| path.to_str().unwrap());
        for more in [&[][..], &["--image", picture.to_str().unwrap()]] {
            assert_eq!(answer(["--model", folder], more), answer(["--run", run_folder], more), "{name}");
        }

        // Imported and exported once more it has the same files.
        let imported = dir.path().join(format!("{name}-imported"));
        let done =
            mm1(&["import", folder, "--out", imported.to_str().unwrap(), "--type", "f32"]).output().unwrap();
        succeeds(&done);
        for file in ["model.safetensors", "config.json", "tokenizer.json", "preprocessor_config.json"] {
            let read = |folder: &Path| fs::read(folder.join(file)).unwrap();
            assert!(read(&out) == read(&imported), "{name}: {file}");
        }

        // A recipe goes on from it, and says what it began with.
        let on = dir.path().join(format!("{name}-on"));
        let (plan, recipe) = (trained_on(&imported, &on), on.with_extension("toml"));
        let (settled, derived) = (&plan["settled"]["recipe"], &plan["settled"]["derived"]);
        assert_eq!(settled["model"]["connector"]["tokens"].as_integer(), Some(4), "{plan}");
        assert_eq!(derived["connector"].as_str().unwrap().len(), 16);
        assert_eq!(settled.get("export").is_some(), name == "stock", "{plan}");
        let exported_again = dir.path().join(format!("{name}-exported-again"));
        succeeds(&export(&on, &exported_again, &["--format", "hf"]));

        // A part that is from elsewhere, and another connector.
        for (edit, says) in [
            ("model.lm.from=/elsewhere", "is a whole model: leave one of both out"),
            ("model.connector.tokens=9", "model.connector.tokens = 9, but"),
            ("model.from=/nowhere", "model.from = \"/nowhere\": no whole model"),
        ] {
            let refused = mm1(&["plan", recipe.to_str().unwrap(), "--set", edit]).output().unwrap();
            let line = stderr(&refused);
            assert!(refused.status.code() == Some(2) && line.contains(says), "{edit}: {line}");
        }
    }
}

#[test]
fn adapters_are_a_part_of_what_is_exported() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("run"), dir.path().join("out"));
    let adapter = "stage.sft.adapter={rank=2,targets=[\"q\",\"up\"]}";
    succeeds(&run(&root, &[&STOCK[..], &["--set", adapter, "--set", "stage.sft.steps=3"]].concat()));
    let done = export(&root, &out, &["--format", "hf"]);
    succeeds(&done);
    // The model without its last stage has other weights at the places of adapters, and only there.
    let before = dir.path().join("before");
    succeeds(&export(&root, &before, &["--format", "hf", "--stage", "pretrain"]));
    let tensors = |folder: &Path| {
        let bytes = fs::read(folder.join("model.safetensors")).unwrap();
        mm1_model::weights::decode(&bytes).unwrap()
    };
    let changed: Vec<String> = tensors(&out)
        .into_iter()
        .zip(tensors(&before))
        .filter(|(after, before)| {
            after != before && !after.0.contains("vision") && !after.0.contains("connector")
        })
        .map(|(after, _)| after.0)
        .collect();
    let layer = "model.text_model.layers.0";
    assert_eq!(changed, [format!("{layer}.mlp.up_proj.weight"), format!("{layer}.self_attn.q_proj.weight")]);
    let proof = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(proof.contains("tensors with the same bits"), "{proof}");
    beside_a_model(&root, dir.path(), &tensors(&out), &tensors(&before));
}

/// Kept beside, the adapters of a run say with its base what is merged otherwise.
fn beside_a_model(run: &Path, folder: &Path, merged: &[Named], before: &[Named]) {
    let out = folder.join("beside");
    let beside = ["--adapters", "beside"];
    succeeds(&export(run, &out, &[&["--format", "hf"][..], &beside].concat()));
    let read = |file: &str| mm1_model::weights::decode(&fs::read(out.join(file)).unwrap()).unwrap();
    let (base, adapters) = (read("model.safetensors"), read("adapter/adapter_model.safetensors"));
    let settings = json(&out.join("adapter/adapter_config.json"));
    let layer = r"model\.text_model\.layers\.\d+";
    assert_eq!(
        settings["target_modules"],
        format!(r"{layer}\.mlp\.up_proj|{layer}\.self_attn\.q_proj"),
        "{settings}"
    );
    assert!(fs::read_to_string(out.join("README.md")).unwrap().contains("PeftModel.from_pretrained"));
    let factor = |map: &str, which: &str| {
        let name = format!("base_model.model.model.text_model.layers.0.{map}.lora_{which}.weight");
        adapters.iter().find(|tensor| tensor.0 == name).unwrap_or_else(|| panic!("{name}"))
    };
    assert_eq!(adapters.len(), 2 * 2);
    for ((after, base), before) in merged.iter().zip(&base).zip(before) {
        let map = after.0.strip_prefix("model.text_model.layers.0.").and_then(|n| n.strip_suffix(".weight"));
        let Some(map) = map.filter(|map| ["mlp.up_proj", "self_attn.q_proj"].contains(map)) else {
            assert!(after == base, "{}", after.0);
            continue;
        };
        // Of what has an adapter the weight is that of the stage before.
        assert!(base == before, "{map}");
        let ([(_, shape, a), (_, _, b)], inputs) = (["A", "B"].map(|which| factor(map, which)), base.1[1]);
        assert_eq!(*shape, [2, inputs]);
        for (i, (after, base)) in after.2.iter().zip(&base.2).enumerate() {
            let (row, column) = (i / inputs, i % inputs);
            let sum: f32 = (0..2).map(|r| b[row * 2 + r] * a[r * inputs + column]).sum();
            assert!((after - base - 16.0 / 2.0 * sum).abs() < 1e-6, "{map}: {after} {base}");
        }
    }
    for (more, says) in [
        (["--format", "gguf", "--stage", "sft"], "a GGUF file has adapters in its weights"),
        (["--format", "hf", "--stage", "pretrain"], "stage pretrain has no adapters"),
    ] {
        let refused = export(run, &folder.join("no"), &[&more[..], &beside].concat());
        assert!(refused.status.code() == Some(2) && stderr(&refused).contains(says), "{}", stderr(&refused));
    }
}

#[test]
fn the_card_has_the_terms_of_weights_that_were_fetched() {
    let dir = tempfile::tempdir().unwrap();
    let (model, recipe) = crate::backbones::recipe(dir.path(), "qwen3");
    fs::write(
        dir.path().join("ATTRIBUTION"),
        "other/model.gguf: another\n  MIT; nobody\nqwen3/model.gguf: a Qwen\n  CC0-1.0; somebody | else\n",
    )
    .unwrap();
    let (root, out) = (dir.path().join("run"), dir.path().join("out"));
    let steps = ["stage.encoder.steps=1", "stage.pretrain.steps=1", "stage.sft.steps=1"];
    let edits = steps.into_iter().flat_map(|edit| ["--set", edit]).collect::<Vec<_>>();
    let start = ["run", recipe.to_str().unwrap(), "--out", root.to_str().unwrap()];
    succeeds(&mm1(&start).args(edits).args(["--unset", "stage.few-shot"]).output().unwrap());
    succeeds(&export(&root, &out, &["--format", "hf"]));
    let card = fs::read_to_string(out.join("README.md")).unwrap();
    assert!(card.contains("| language model | qwen3 | CC0-1.0; somebody   else |"), "{model:?}: {card}");
    assert!(!card.contains("MIT; nobody"), "{card}");
}

#[test]
fn a_stock_model_in_gguf_has_its_encoder_beside_it() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("run"), dir.path().join("m.gguf"));
    succeeds(&run(&root, &STOCK));
    succeeds(&export(&root, &out, &["--format", "gguf", "--type", "f32"]));
    let beside = GgufFile::open(&dir.path().join("mmproj-m.gguf")).unwrap();
    assert_eq!(beside.metadata["clip.projector_type"], MetadataValue::Text("idefics3".to_owned()));
    assert_eq!(beside.metadata["clip.vision.projector.scale_factor"], MetadataValue::u32(2));
    // Two patches a side become one token: four times the encoder's width of 16.
    assert_eq!(beside.tensors["mm.model.fc.weight"].shape, [16, 64]);
    assert_eq!(beside.tensors["v.position_embd.weight"].shape, [16, 16]);
    let map = beside.tensors["mm.model.fc.weight"].read().unwrap();
    assert_eq!(map[..16], map[16..32]);
    assert!(out.exists());
}

/// What makes the tiny recipe a LLaVA of a SigLIP.
const LLAVA: [&str; 12] = [
    "--set",
    "export=llava",
    "--set",
    "model.connector={kind=\"mlp\"}",
    "--set",
    "model.vision.last_norm=false",
    "--set",
    "stage.encoder.steps=1",
    "--set",
    "stage.pretrain.steps=1",
    "--set",
    "stage.sft.steps=1",
];

#[test]
fn a_llava_is_written_with_all_that_transformers_reads_and_goes_back_in() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("run"), dir.path().join("llava"));
    let clip = ["--set", "model.vision.class_token=true", "--set", "model.vision.pre_norm=true"];
    let crop = ["--set", "image.mode={shortest-edge=20}"];
    succeeds(&run(&root, &[&LLAVA[..], &clip, &crop].concat()));
    let done = export(&root, &out, &["--format", "hf", "--json"]);
    succeeds(&done);
    let said: Value = serde_json::from_slice(&done.stdout).unwrap();
    // The bias of the patches is rounded into the positions.
    assert!(said["proof"]["picture"].as_f64().unwrap() < 1e-5, "{said}");
    assert_eq!((&said["form"], &said["proof"]["text"]), (&"llava".into(), &0.0.into()), "{said}");
    let config = json(&out.join("config.json"));
    assert_eq!(config["architectures"][0], "LlavaForConditionalGeneration");
    assert_eq!(config["vision_config"]["model_type"], "clip_vision_model");
    assert_eq!(config["image_token_id"], config["image_token_index"]);
    let pictures = json(&out.join("preprocessor_config.json"));
    assert_eq!(pictures["image_processor_type"], "CLIPImageProcessor");
    assert_eq!(
        (&pictures["size"]["shortest_edge"], &pictures["crop_size"]["height"]),
        (&20.into(), &16.into())
    );
    let processor = json(&out.join("processor_config.json"));
    assert_eq!(processor["processor_class"], "LlavaProcessor");
    assert_eq!((&processor["patch_size"], &processor["num_additional_image_tokens"]), (&8.into(), &1.into()));
    assert!(!out.join("modeling_mm1.py").exists());

    // llama.cpp has no such encoder, and that is said.
    let gguf = dir.path().join("m.gguf");
    let done = export(&root, &gguf, &["--format", "gguf"]);
    succeeds(&done);
    assert!(String::from_utf8_lossy(&done.stdout).contains("takes the class token for a patch"));
    assert!(!dir.path().join("mmproj-m.gguf").exists());

    // Read again it is asked as the run is, and a recipe goes on from it.
    let picture = dir.path().join("picture.png");
    crate::picture(picture.clone(), 30, [200, 40, 40]);
    let [root_name, folder, picture] = [&root, &out, &picture].map(|path| path.to_str().unwrap());
    let about = ["--image", picture];
    assert_eq!(answer(["--model", folder], &about), answer(["--run", root_name], &about));
    // The norm that nobody looks behind is left.
    let imported = dir.path().join("imported");
    let done = mm1(&["import", folder, "--out", imported.to_str().unwrap()]).output().unwrap();
    succeeds(&done);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("2 left out"), "{said}");
    assert_eq!(json(&imported.join("config.json"))["vision_feature_layer"], -1);
    let plan = trained_on(&out, &dir.path().join("on"));
    let settled = &plan["settled"]["recipe"];
    assert_eq!(settled["export"].as_str(), Some("llava"), "{plan}");
    assert_eq!(settled["model"]["connector"]["kind"].as_str(), Some("mlp"), "{plan}");
    assert_eq!(settled["model"]["vision"]["last_norm"].as_bool(), Some(false), "{plan}");
}

#[test]
fn llama_cpp_has_the_encoder_of_a_llava_without_class_token() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("run"), dir.path().join("m.gguf"));
    succeeds(&run(&root, &[&LLAVA[..], &["--set", "model.vision.activation=gelu-tanh"]].concat()));
    succeeds(&export(&root, &out, &["--format", "gguf", "--type", "f32"]));
    let beside = GgufFile::open(&dir.path().join("mmproj-m.gguf")).unwrap();
    assert_eq!(beside.metadata["clip.projector_type"], MetadataValue::Text("mlp".to_owned()));
    assert_eq!(beside.metadata["clip.vision.feature_layer"], MetadataValue::i32s([1]));
    assert_eq!(beside.tensors["mm.0.weight"].shape, [16, 16]);
    assert_eq!(beside.tensors["mm.2.bias"].shape, [16]);
    assert!(!beside.tensors.keys().any(|name| name.starts_with("v.post_ln")));
}

#[test]
fn what_no_llava_is_is_refused_when_the_recipe_is_checked() {
    let cases = [
        ("model.connector={kind=\"average-pool\", tokens=4}", "model.connector.kind"),
        ("model.vision.last_norm=true", "model.vision.last_norm"),
        ("model.vision.stem=conv", "model.vision.stem"),
        ("model.vision.pre_norm=true", "model.vision.pre_norm"),
        (
            "model.lm={dim=16,layers=1,heads=2,kv_heads=1,ffn=32,qkv_bias=true,qk_norm=true}",
            "model.lm.qk_norm",
        ),
        ("image.mode=pad", "image.mode"),
        ("image.mode=centre-crop", "image.mode"),
        ("image.tiling={kind=\"mm1\"}", "tiling"),
        ("stage.sft.tiling={kind=\"idefics3\",longest=2}", "tiling"),
    ];
    for (edit, named) in cases {
        let refused = mm1(&["plan", TINY]).args(LLAVA).args(["--set", edit]).output().unwrap();
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{edit}: {said}");
        assert!(said.contains(named) && said.lines().count() == 1, "{edit}: {said}");
    }
    succeeds(&mm1(&["plan", TINY, "--no-measure"]).args(LLAVA).output().unwrap());
    // A stage with larger pictures has more image tokens, and room for them is asked for.
    let larger = ["--set", "stage.sft.image_size=32"];
    let done = mm1(&["plan", TINY, "--no-measure"]).args(LLAVA).args(larger).output().unwrap();
    succeeds(&done);
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    assert!(said.contains("32 pixels a side (16 image tokens)"), "{said}");
    let tight = ["--set", "stage.sft.image_size=128"];
    let refused = mm1(&["plan", TINY, "--no-measure"]).args(LLAVA).args(tight).output().unwrap();
    assert!(stderr(&refused).contains("the 256 tokens of one picture"), "{}", stderr(&refused));
}

#[test]
fn any_other_model_has_its_modelling_file() {
    let dir = tempfile::tempdir().unwrap();
    let (root, out) = (dir.path().join("run"), dir.path().join("own"));
    let connector = "model.connector={kind=\"c-abstractor\", tokens=4, dim=24, depth=1}";
    let edits =
        ["--set", connector, "--set", "model.vision.class_token=true", "--set", "model.vision.stem=conv"];
    let steps =
        ["--set", "stage.pretrain.steps=1", "--set", "stage.sft.steps=1", "--unset", "stage.few-shot"];
    succeeds(&run(&root, &[&edits[..], &steps[..]].concat()));
    let done = export(&root, &out, &["--format", "hf", "--type", "bf16"]);
    succeeds(&done);
    assert!(String::from_utf8_lossy(&done.stdout).contains("trust_remote_code"));
    let code = fs::read_to_string(out.join("modeling_mm1.py")).unwrap();
    assert!(code.contains("class CAbstractor"));
    let config = json(&out.join("config.json"));
    assert_eq!(config["auto_map"]["AutoConfig"], "modeling_mm1.Mm1Config");
    assert_eq!(config["connector_config"]["kind"], "c-abstractor");
    assert!(fs::read_to_string(out.join("README.md")).unwrap().contains("It was not evaluated"));
    let refused = export(&root, &dir.path().join("q"), &["--format", "hf", "--type", "q8_0"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("--type q8_0"), "{}", stderr(&refused));
}

#[test]
fn what_no_idefics3_is_is_refused_when_the_recipe_is_checked() {
    let cases = [
        ("model.connector.bias=true", "model.connector.bias"),
        ("model.connector.tokens=9", "take one of 1, 4, 16"),
        ("model.connector={kind=\"attention-pool\", tokens=4, heads=4}", "model.connector.kind"),
        ("model.vision.class_token=true", "model.vision.class_token"),
        ("model.vision.stem=conv", "model.vision.stem"),
        ("model.vision.pre_norm=true", "model.vision.pre_norm"),
        ("model.vision.activation=gelu", "model.vision.activation"),
        ("model.lm.qkv_bias=true", "model.lm.qkv_bias"),
        ("model.lm.qk_norm=true", "model.lm.qk_norm"),
        ("image.mode=pad", "image.mode"),
        ("image.mean=[0.0, 0.0, 0.0]", "image.mean"),
        ("image.tiling={kind=\"mm1\"}", "tiling.kind"),
        ("stage.sft.tiling={kind=\"anyres\"}", "tiling.kind"),
        ("image.tiling={kind=\"idefics3\",overview=\"first\"}", "tiling.overview"),
        ("image.tiling={kind=\"idefics3\",indicators=\"none\"}", "tiling.indicators"),
        ("tokenizer.vocab=262", "of which 3 mark pictures"),
    ];
    for (edit, named) in cases {
        let refused = mm1(&["plan", TINY]).args(STOCK).args(["--set", edit]).output().unwrap();
        let said = stderr(&refused);
        assert_eq!(refused.status.code(), Some(2), "{edit}: {said}");
        assert!(said.contains(named) && said.lines().count() == 1, "{edit}: {said}");
    }
    succeeds(&mm1(&["plan", TINY, "--no-measure"]).args(STOCK).output().unwrap());
}

//! What a machine does to a run: disks that end, streams that are full, files that are cut or change, sizes
//! beyond all limits.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::refuse::refused;
use crate::{TINY, losses, mm1, picture, run, stderr, succeeds};

/// `TINY` with as few steps as show everything that a run writes.
const SHORT: [&str; 8] = [
    "--set",
    "stage.encoder.steps=2",
    "--set",
    "stage.pretrain.steps=3",
    "--set",
    "stage.sft.steps=2",
    "--set",
    "stage.few-shot.questions=3",
];

/// How a process ends that writes beyond its limit.
#[derive(Clone, Copy)]
enum Beyond {
    /// By a signal, in the middle of a write, as by a kill.
    Killed,
    /// By an error, as of a full disk.
    Refused,
}

/// The short run, of which no file may grow beyond `bytes`.
fn limited(out: &Path, bytes: u64, beyond: Beyond) -> Output {
    let ignore = match beyond {
        Beyond::Killed => "",
        Beyond::Refused => "trap '' XFSZ;",
    };
    // The shell counts blocks of 512 bytes, or of 1,024.
    let script = format!(
        "{ignore} if command -v prlimit >/dev/null; then exec prlimit --core=0 --fsize={bytes} -- \"$0\" \
         \"$@\"; fi; ulimit -f {}; exec \"$0\" \"$@\"",
        bytes / 512
    );
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_mm1"), "run", TINY, "--out"]).arg(out).args(SHORT);
    command.output().unwrap()
}

/// The files below a folder that are not locks.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut folders, mut found) = (vec![folder.to_owned()], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in folder.read_dir().unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.retain(|path| !path.ends_with(".lock"));
    found
}

/// Where each file of `folder` whose path holds one of `parts` is cut: at its beginning, in it, and before
/// its last byte.
fn cuts(folder: &Path, parts: &[&str]) -> BTreeSet<u64> {
    let path = |path: &PathBuf| path.strip_prefix(folder).unwrap().to_string_lossy().into_owned();
    let wanted = files(folder).into_iter().filter(|file| parts.iter().any(|part| path(file).contains(part)));
    wanted.map(|file| file.metadata().unwrap().len()).flat_map(|len| [1, len / 2, len - 1]).collect()
}

/// Every write is cut, at bytes of every file, by a kill or by a full disk; each time the run goes on, and in
/// the end its digits are those of the run that was left alone.
#[cfg(target_os = "linux")]
#[test]
fn every_write_cut_at_any_byte_goes_on_to_the_same_digits() {
    let dir = tempfile::tempdir().unwrap();
    let (whole, cut) = (dir.path().join("whole"), dir.path().join("cut"));
    succeeds(&run(&whole, &SHORT));
    let text = |out: &Path, name: &str| fs::read_to_string(out.join(name)).unwrap();
    let same = |out: &Path| {
        assert_eq!(losses(out), losses(&whole));
        assert_eq!(text(out, "eval.json"), text(&whole, "eval.json"));
        assert_eq!(text(out, "samples.json"), text(&whole, "samples.json"));
        assert!(out.join("report.html").exists());
        let beside = |path: &PathBuf| {
            let name = path.strip_prefix(out).unwrap().to_string_lossy();
            name.contains(".new") || name.contains(".tmp")
        };
        assert!(!files(out).iter().any(beside), "{:?}", files(out));
    };
    let go = |out: &Path, parts: &[&str]| {
        let mut stopped = 0;
        for (number, bytes) in cuts(&whole, parts).into_iter().enumerate() {
            let beyond = [Beyond::Killed, Beyond::Refused][number % 2];
            let ended = limited(out, bytes, beyond);
            if ended.status.success() {
                continue;
            }
            stopped += 1;
            if matches!(beyond, Beyond::Refused) {
                let said = stderr(&ended);
                let last = said.lines().last().unwrap_or_default();
                assert!(last.starts_with("mm1: ") && !said.contains("panicked"), "{bytes} bytes: {said}");
            }
        }
        stopped
    };
    // From nothing: what is written before and in training.
    let stopped = go(&cut, &["tokenizer.json", "plan.toml", "metrics.jsonl", "step-00000002/"]);
    assert!(stopped >= 10, "{stopped}");
    succeeds(&run(&cut, &SHORT));
    same(&cut);
    // With all training done: what is smaller than a checkpoint.
    for name in ["eval.json", "samples.json", "report.html"] {
        fs::remove_file(cut.join(name)).unwrap();
    }
    fs::remove_dir_all(cut.join("eval")).unwrap();
    let stopped = go(&cut, &["eval/", "eval.json", "samples.json", "report.html"]);
    assert!(stopped >= 8, "{stopped}");
    succeeds(&run(&cut, &SHORT));
    same(&cut);
}

#[test]
fn sizes_beyond_all_limits_are_refused_by_name() {
    for field in [
        "stage.pretrain.rows",
        "stage.pretrain.length",
        "stage.pretrain.accumulate",
        "stage.pretrain.checkpoint.keep",
        "stage.few-shot.batch",
        "model.lm.layers",
        "model.lm.dim",
        "model.vision.image_size",
        "model.connector.tokens",
        "tokenizer.vocab",
        "world.emoji",
    ] {
        for size in ["1000000000", "1000000000000000000", "9223372036854775807"] {
            let edit = format!("{field}={size}");
            let output = mm1(&["plan", TINY, "--set", &edit]).output().unwrap();
            refused(&output, &[&format!("{field} = {size}"), "give at most"]);
        }
    }
    let shots =
        mm1(&["plan", TINY, "--set", "stage.few-shot.shots=[0, 1000000000000000000]"]).output().unwrap();
    refused(&shots, &["stage.few-shot.shots = 1000000000000000000", "give at most"]);
    let product = ["--set", "stage.pretrain.rows=60000", "--set", "stage.pretrain.length=1000000"];
    refused(&mm1(&["plan", TINY]).args(product).output().unwrap(), &["stage.pretrain", "positions"]);
}

#[test]
fn a_type_that_is_wrong_names_the_field_what_it_was_and_what_it_must_be() {
    let plan = |edits: &[&str]| {
        mm1(&["plan", TINY]).args(edits.iter().flat_map(|edit| ["--set", edit])).output().unwrap()
    };
    let number = "expected a whole number, 0 or more";
    refused(
        &plan(&["stage.pretrain.steps=abc"]),
        &["stage.pretrain.steps = \"abc\"", number, "without --set it is 12"],
    );
    refused(&plan(&["stage.pretrain.steps=1.5"]), &["stage.pretrain.steps = 1.5", number]);
    refused(&plan(&["stage.sft.checkpoint.every=[1]"]), &["stage.sft.checkpoint.every = [1]", number]);
    refused(&plan(&["model.connector.tokens=four"]), &["model.connector.tokens = \"four\"", number]);
    refused(&plan(&["stage.few-shot.blind=3"]), &["stage.few-shot.blind = 3", "true or false"]);
    refused(&plan(&["data.chat.kind=json-text", "data.chat.path=3"]), &["data.chat.path = 3", "recipe.md"]);
    refused(&plan(&["seed=x"]), &["seed = \"x\"", number]);
    refused(&plan(&["stage.encoder.optimizer=fast"]), &["stage.encoder.optimizer = \"fast\""]);
}

#[test]
fn a_field_in_the_wrong_place_is_looked_for_in_the_whole_recipe() {
    let plan = |edits: &[&str]| {
        mm1(&["plan", TINY]).args(edits.iter().flat_map(|edit| ["--set", edit])).output().unwrap()
    };
    refused(
        &plan(&["stage.pretrain.lr=0.1"]),
        &["stage.pretrain.lr", "did you mean stage.pretrain.optimizer.lr?"],
    );
    refused(&plan(&["stage.sft.every=3"]), &["did you mean stage.sft.checkpoint.every?"]);
    refused(&plan(&["layers=3"]), &["model.lm.layers", "model.vision.layers"]);
    refused(&plan(&["retries=3"]), &["did you mean store.retries?"]);
    let device = plan(&["stage.pretrain.device=cuda"]);
    refused(&device, &["stage.pretrain.device", "did you mean device?"]);
    assert!(!stderr(&device).contains("tokenizer`?"), "{}", stderr(&device));
    refused(&plan(&["stage.pretrain.stepz=4"]), &["unknown field `stepz`", "did you mean `steps`"]);
    refused(&plan(&["stage.pretrain.zzzz=4"]), &["stage.pretrain.zzzz"]);
}

#[test]
fn a_field_is_left_out_by_an_empty_value_or_unset() {
    let steps = |more: &[&str]| {
        let plan = mm1(&["plan", TINY, "--json"]).args(more).output().unwrap();
        succeeds(&plan);
        let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
        plan["settled"]["recipe"]["stage"].as_array().unwrap()[1].clone()
    };
    assert_eq!(steps(&[])["accumulate"], 2);
    assert_eq!(steps(&["--set", "stage.pretrain.accumulate="])["accumulate"], 1);
    assert_eq!(steps(&["--unset", "stage.pretrain.accumulate"])["accumulate"], 1);
    assert_eq!(steps(&["--unset", "stage.encoder"])["name"], "few-shot");
    let missing = mm1(&["plan", TINY, "--unset", "stage.pretrain.rowz"]).output().unwrap();
    refused(&missing, &["there is no stage.pretrain.rowz"]);
}

#[test]
fn recipes_inside_of_the_program_and_plans_of_runs_are_run() {
    let dir = tempfile::tempdir().unwrap();
    let list = mm1(&["recipes"]).output().unwrap();
    succeeds(&list);
    assert!(String::from_utf8_lossy(&list.stdout).contains("encoder/dino-quick"));
    let one = mm1(&["recipes", "quickstart"]).current_dir(dir.path()).output().unwrap();
    assert!(String::from_utf8_lossy(&one.stdout).contains("name = \"quickstart\""));
    let plan = mm1(&["plan", "quickstart", "--json"]).current_dir(dir.path()).output().unwrap();
    succeeds(&plan);
    let unknown = mm1(&["plan", "quickstrat"]).current_dir(dir.path()).output().unwrap();
    refused(&unknown, &["quickstrat", "mm1 recipes"]);
    refused(&mm1(&["recipes", "nope"]).output().unwrap(), &["nope", "quickstart"]);

    let (first, second) = (dir.path().join("first"), dir.path().join("second"));
    succeeds(&run(&first, &SHORT));
    let plan = first.join("plan.toml");
    let again = mm1(&["run", plan.to_str().unwrap(), "--out", second.to_str().unwrap()]).output().unwrap();
    succeeds(&again);
    assert_eq!(losses(&second), losses(&first));
    // And it continues the run itself.
    succeeds(&mm1(&["run", plan.to_str().unwrap(), "--out", first.to_str().unwrap()]).output().unwrap());
}

#[test]
fn a_folder_without_steps_is_taken_over_and_a_foreign_one_refused() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    succeeds(&run(&out, &SHORT));
    // What a run leaves that is stopped before its first checkpoint.
    for name in ["checkpoints", "eval"] {
        fs::remove_dir_all(out.join(name)).unwrap();
    }
    for name in ["eval.json", "samples.json", "report.html"] {
        fs::remove_file(out.join(name)).unwrap();
    }
    fs::write(out.join("tokenizer.json"), "{\"cut").unwrap();
    let other = run(&out, &[&SHORT[..], &["--set", "seed=9"]].concat());
    succeeds(&other);
    assert!(stderr(&other).contains("begins anew (recipe.seed: 3, now 9)"), "{}", stderr(&other));
    assert_eq!(losses(&out).len(), 2 + 3 + 2);
    refused(&run(&out, &SHORT), &["belongs to another run", "seed: 9, now 3"]);

    let foreign = dir.path().join("thesis");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("chapter.tex"), "x").unwrap();
    refused(&run(&foreign, &SHORT), &["not a run folder", "chapter.tex"]);
    assert_eq!(files(&foreign).len(), 1, "nothing was written");
}

#[test]
fn a_finished_run_can_be_given_more_steps() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let steps =
        |steps: &'static str| [&SHORT[..4], &SHORT[6..], &["--unset", "stage.sft", "--set", steps]].concat();
    let short = steps("stage.pretrain.steps=3");
    succeeds(&run(&out, &short));
    let scores = |out: &Path| fs::read_to_string(out.join("eval.json")).unwrap();
    let before = (losses(&out), scores(&out));
    let more = run(&out, &steps("stage.pretrain.steps=6"));
    succeeds(&more);
    assert!(stderr(&more).contains("more steps for pretrain"), "{}", stderr(&more));
    assert!(stderr(&more).contains("continues after step 3 of 6"), "{}", stderr(&more));
    let after = losses(&out);
    assert_eq!(after.len(), 2 + 6);
    assert_eq!(after[..5], before.0[..], "what was done stays");
    // The plan is that of more steps now.
    succeeds(&run(&out, &steps("stage.pretrain.steps=6")));
    refused(&run(&out, &short), &["steps: 6, now 3"]);
    // Not under a stage that was trained after it.
    let earlier = [&steps("stage.pretrain.steps=6")[..], &["--set", "stage.encoder.steps=4"]].concat();
    refused(
        &run(&out, &earlier),
        &["stage encoder can't have more steps", "stage pretrain was trained after it"],
    );
}

#[test]
fn plans_metrics_and_logs_that_are_cut_go_on_or_are_refused_in_a_line() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    succeeds(&run(&out, &SHORT));
    let (digits, scores) = (losses(&out), fs::read_to_string(out.join("eval.json")).unwrap());
    // Inside of a letter.
    let append = |name: &str, bytes: &[u8]| {
        let path = out.join(name);
        fs::write(&path, [&fs::read(&path).unwrap(), bytes].concat()).unwrap();
    };
    append("metrics.jsonl", b"{\"stage\": \"\xc3");
    for name in ["eval/few-shot/scene-vqa-0-shot.jsonl", "eval/few-shot/scene-vqa-2-shot.jsonl"] {
        append(name, b"{\"id\": \"\xf0\x9f");
    }
    fs::remove_file(out.join("eval.json")).unwrap();
    let again = run(&out, &SHORT);
    succeeds(&again);
    assert!(stderr(&again).contains("a line cut short or damaged, taken out"), "{}", stderr(&again));
    assert_eq!((losses(&out), fs::read_to_string(out.join("eval.json")).unwrap()), (digits, scores));
    // Lines that are lost are said at the end.
    let text = fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let lost: String =
        text.lines().filter(|line| !line.contains("\"step\":2,")).map(|line| format!("{line}\n")).collect();
    assert_ne!(lost, text);
    fs::write(out.join("metrics.jsonl"), lost).unwrap();
    let lost = run(&out, &SHORT);
    succeeds(&lost);
    assert!(stderr(&lost).contains("lacks the figures of 1 of the 3 steps of pretrain"), "{}", stderr(&lost));
    let plan = fs::read_to_string(out.join("plan.toml")).unwrap();
    for damage in ["", "x = 1\n", "[settled]\n", &plan[..plan.len() / 2], "[settled.recipe"] {
        fs::write(out.join("plan.toml"), damage).unwrap();
        refused(&run(&out, &SHORT), &["plan.toml"]);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn full_streams_end_no_run_and_no_process_in_a_panic() {
    let dir = tempfile::tempdir().unwrap();
    let full = || fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for command in [&["plan", TINY][..], &["plan", TINY, "--json"], &["schema"], &["recipes"]] {
        refused(&mm1(command).stdout(full()).output().unwrap(), &["standard output can't be written"]);
    }
    let out = dir.path().join("run");
    let unseen =
        mm1(&["run", TINY, "--out", out.to_str().unwrap()]).args(SHORT).stderr(full()).output().unwrap();
    assert!(unseen.status.success(), "{}", unseen.status);
    assert_eq!(losses(&out).len(), 2 + 3 + 2);
    let mut json = mm1(&["run", TINY, "--json", "--out", out.to_str().unwrap()]);
    refused(&json.args(SHORT).stdout(full()).output().unwrap(), &["standard output can't be written"]);
    assert_eq!(mm1(&["plan", "x.toml"]).stderr(full()).output().unwrap().status.code(), Some(2));
}

#[test]
fn another_instruction_set_is_said_and_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let on = |set: &str| {
        mm1(&["run", TINY, "--out", out.to_str().unwrap()]).args(SHORT).env("MM1_ISA", set).output().unwrap()
    };
    if !on("avx2").status.success() {
        eprintln!("this machine has one instruction set: skipped");
        return;
    }
    let plan = || fs::read_to_string(out.join("plan.toml")).unwrap();
    assert!(plan().contains("instruction_sets = [\"avx2\"]"), "{}", plan());
    let same = on("avx2");
    assert!(!stderr(&same).contains("instruction set"), "{}", stderr(&same));
    let other = on("plain");
    succeeds(&other);
    assert!(
        stderr(&other).contains("instruction set \"avx2\" and goes on with \"plain\""),
        "{}",
        stderr(&other)
    );
    assert!(plan().contains("instruction_sets = [\"avx2\", \"plain\"]"), "{}", plan());
    assert!(!stderr(&on("plain")).contains("instruction set"));
}

/// The plan of a run says that it was made elsewhere, as if its folder had been moved.
#[test]
fn another_device_is_said_and_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let on_cpu = || run(&out, &SHORT);
    succeeds(&on_cpu());
    let plan = out.join("plan.toml");
    let text = fs::read_to_string(&plan).unwrap();
    assert!(!text.contains("device"), "{text}");
    let moved = text.replacen("[settled.recipe]\n", "[settled.recipe]\ndevice = \"cuda:1\"\n", 1);
    assert_ne!(moved, text);
    fs::write(&plan, format!("devices = [\"cuda:1\"]\n{moved}")).unwrap();
    let before = losses(&out);
    let here = on_cpu();
    succeeds(&here);
    assert!(stderr(&here).contains("computed on cuda:1 and goes on with cpu"), "{}", stderr(&here));
    let now = fs::read_to_string(&plan).unwrap();
    assert!(now.contains("devices = [\"cuda:1\", \"cpu\"]"), "{now}");
    assert_eq!(now.matches("cuda:1").count(), 1, "{now}");
    assert_eq!(losses(&out), before);
    assert!(!stderr(&on_cpu()).contains("goes on with"));
}

#[test]
fn data_that_has_changed_stops_a_resumed_run_unless_it_is_told_to_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let texts = dir.path().join("texts.jsonl");
    let pictures = dir.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    for i in 0..4 {
        picture(pictures.join(format!("{i}.png")), 20, [i * 40, 2, 3]);
        fs::write(pictures.join(format!("{i}.txt")), format!("caption {i}")).unwrap();
    }
    let write =
        |word: &str| fs::write(&texts, format!("{{\"text\": \"a line of {word}\"}}\n").repeat(50)).unwrap();
    let edits = [
        "data.captioned.kind=folder".to_owned(),
        format!("data.captioned.path={}", pictures.display()),
        "data.interleaved.kind=json-text".to_owned(),
        format!("data.interleaved.path={}", texts.display()),
    ];
    let with: Vec<&str> = edits.iter().flat_map(|edit| ["--set", edit]).collect();
    let go = |more: &[&str]| {
        let mut command = mm1(&["run", TINY, "--out", out.to_str().unwrap()]);
        command
            .args(SHORT)
            .args(&with)
            .args(more)
            .env("MM1_CACHE", dir.path().join("cache"))
            .output()
            .unwrap()
    };
    write("words");
    succeeds(&go(&[]));
    // A copy, with another date.
    write("words");
    succeeds(&go(&[]));
    write("swords");
    refused(&go(&[]), &["data.interleaved has changed", "--accept-changed-data"]);
    // The same length, other letters.
    write("wards");
    refused(&go(&[]), &["data.interleaved has changed", "not the same ones"]);
    write("words");
    fs::write(pictures.join("1.txt"), "another").unwrap();
    refused(&go(&[]), &["data.captioned has changed"]);
    fs::write(pictures.join("1.txt"), "caption 1").unwrap();
    succeeds(&go(&[]));
    picture(pictures.join("2.png"), 20, [9, 9, 9]);
    refused(&go(&[]), &["data.captioned has changed"]);
    let accepted = go(&["--accept-changed-data"]);
    succeeds(&accepted);
    assert!(stderr(&accepted).contains("warning: data.captioned has changed"), "{}", stderr(&accepted));
    // It is that run's data from now on.
    succeeds(&go(&[]));
}

/// An encoder that does not say how it takes pictures is asked about; what transformers 5 writes is read.
#[test]
fn fault_62_an_encoder_without_settings_is_asked_for_them() {
    let dir = tempfile::tempdir().unwrap();
    let nested =
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/faults/62-no-preprocessor-config/nested");
    let none = dir.path().join("none");
    fs::create_dir(&none).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(nested.join(name), none.join(name)).unwrap();
    }
    let plan = |from: &Path, more: &[&str]| {
        let from = format!("model.vision.from={}", from.display());
        let edits = [&["--set", &from][..], more].concat();
        mm1(&["plan", "encoder/probe", "--json"]).args(edits).current_dir(dir.path()).output().unwrap()
    };
    let image = |output: &Output| {
        succeeds(output);
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        plan["settled"]["recipe"]["image"].clone()
    };
    let read = image(&plan(&nested, &[]));
    assert_eq!(read["mode"]["shortest-edge"], 20, "{read}");
    assert!((read["mean"][0].as_f64().unwrap() - 0.1).abs() < 1e-6, "{read}");
    refused(
        &plan(&none, &[]),
        &["no preprocessor_config.json and no processor_config.json", "image.mode, image.mean, image.std"],
    );
    let some = ["--set", "image.mode=squash"];
    refused(&plan(&none, &some), &["image.mean, image.std as the encoder was trained"]);
    let all =
        [&some[..], &["--set", "image.mean=[0.1, 0.1, 0.1]", "--set", "image.std=[0.2, 0.2, 0.2]"]].concat();
    assert_eq!(image(&plan(&none, &all))["mode"], "squash");
    // What it says is not contradicted; the same once more is no contradiction.
    for (edit, own) in [
        ("image.mean=[0.5, 0.5, 0.5]", "has [0.1, 0.2, 0.3]: leave it out"),
        ("image.mode=squash", "has { shortest-edge = 20 }: leave it out"),
        ("image.filter=nearest", "has \"bicubic\": leave it out"),
    ] {
        let (field, _) = edit.split_once('=').unwrap();
        refused(&plan(&nested, &["--set", edit]), &[&format!("{field} = "), own]);
    }
    let again =
        plan(&nested, &["--set", "image.mean=[0.1, 0.2, 0.3]", "--set", "image.background=[0, 0, 0]"]);
    assert_eq!(image(&again)["background"][0], 0);
    // Its config.json and its processor's settings are of two sizes.
    let two = dir.path().join("two");
    fs::create_dir(&two).unwrap();
    for name in ["config.json", "model.safetensors"] {
        fs::copy(nested.join(name), two.join(name)).unwrap();
    }
    let text = fs::read_to_string(nested.join("processor_config.json")).unwrap();
    fs::write(two.join("processor_config.json"), text.replace("20", "16")).unwrap();
    refused(&plan(&two, &[]), &["of 16 pixels", "of 20 by its config.json", "model.vision.image_size"]);
    let chosen = image(&plan(&two, &["--set", "model.vision.image_size=16"]));
    assert_eq!(chosen["mode"]["shortest-edge"], 16, "{chosen}");
}

/// A plan of an earlier version, with the names that fields had then, is still this run's.
#[test]
fn a_plan_with_the_old_names_of_fields_continues_the_run() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("run");
    let edits = ["stage.few-shot.demonstration_size=16", "stage.few-shot.full_resolution_demonstrations=1"];
    let more = [&SHORT[..], &["--set", edits[0], "--set", edits[1]]].concat();
    succeeds(&run(&out, &more));
    let path = out.join("plan.toml");
    let plan = fs::read_to_string(&path).unwrap();
    let mut earlier = plan.clone();
    for (now, then) in [
        ("full_resolution_demonstrations", "sharp_demonstrations"),
        ("activation_checkpointing", "recompute_blocks"),
    ] {
        assert!(earlier.contains(now), "{now}");
        earlier = earlier.replace(now, then);
    }
    // Nor did it have what is newer than it.
    let newer = |line: &&str| !line.starts_with("instruction_sets");
    fs::write(&path, earlier.lines().filter(newer).map(|line| format!("{line}\n")).collect::<String>())
        .unwrap();
    succeeds(&run(&out, &more));
    let other =
        run(&out, &[&more[..], &["--set", "stage.few-shot.full_resolution_demonstrations=0"]].concat());
    refused(&other, &["belongs to another run", "full_resolution_demonstrations"]);
}

/// An import into a file system of `pages` of 4,096 bytes, and the same again when it has grown: what was
/// said, and what the folder held after each. `None` where a user may not mount one of his own.
#[cfg(target_os = "linux")]
fn import_into(disk: &Path, pages: u64, texts: &Path) -> Option<(Output, Vec<String>)> {
    let script = format!(
        "mount -t tmpfs -o size={} tmpfs \"$1\" && echo mounted >&2 || exit 77
         import() {{ \"$0\" data import \"$2\" --to \"$1\" --no-filter >&2; echo $?; ls -A \"$1\" | tr '\\n' \
         ' '; echo; }}
         import \"$@\"; mount -o remount,size=1m \"$1\"; import \"$@\"",
        pages * 4096
    );
    let mut command = Command::new("unshare");
    let program = env!("CARGO_BIN_EXE_mm1");
    command.args(["--map-root-user", "--mount", "sh", "-c", &script, program]).args([disk, texts]);
    let output = command.output().ok().filter(|output| stderr(output).starts_with("mounted"))?;
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    Some((output, said.lines().map(|line| line.trim().to_owned()).collect()))
}

/// A disk that ends at any page of the shards or their manifest: it is called so, nothing is left behind, and
/// the same command goes on once there is room.
#[cfg(target_os = "linux")]
#[test]
fn an_import_onto_a_full_disk_says_so_and_goes_on_when_there_is_room() {
    let dir = tempfile::tempdir().unwrap();
    let (disk, texts) = (dir.path().join("disk"), dir.path().join("texts.jsonl"));
    fs::create_dir(&disk).unwrap();
    let lines = (0..20).map(|i| format!("{{\"text\": \"A text of the number {i}.\"}}\n"));
    fs::write(&texts, lines.collect::<String>()).unwrap();
    let (mut refused, mut done) = (BTreeSet::new(), 0);
    // The archive takes 6 pages, the manifest one.
    for pages in 1..10 {
        let Some((output, said)) = import_into(&disk, pages, &texts) else {
            eprintln!("skipped: no user may mount a file system here");
            return;
        };
        let [first, after, second, at_last] = &said[..] else { panic!("{said:?}") };
        if first == "0" {
            done += 1;
        } else {
            let shown = stderr(&output);
            let line = shown.lines().find(|line| line.starts_with("mm1: ")).unwrap();
            assert_eq!((first.as_str(), after.as_str()), ("2", ".lock"), "{pages}: {shown}");
            assert!(line.contains("the disk is full: nothing was written; free some space"), "{line}");
            refused.insert(line.split(": ").nth(4).unwrap().rsplit('/').next().unwrap().to_owned());
            assert_eq!(second, "0", "{pages}: {shown}");
        }
        assert_eq!(at_last, ".lock manifest.json shard-000000.tar", "{pages}");
    }
    assert!(
        done > 0 && refused.contains("shard-000000.tar") && refused.contains("manifest.json"),
        "{refused:?}"
    );
}

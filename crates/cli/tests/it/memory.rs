//! What a run holds.

use crate::{losses, run, stderr, succeeds};

/// By which small things may differ.
#[cfg(target_os = "linux")]
const ALLOWANCE_MIB: u64 = 16;

/// Peak of pre-training in MiB, in so many steps.
#[cfg(target_os = "linux")]
fn peak(steps: u32) -> u64 {
    let dir = tempfile::tempdir().unwrap();
    let edits = [format!("stage.pretrain.steps={steps}"), "stage.pretrain.checkpoint.every=2000".to_owned()];
    let done = run(dir.path(), &["--set", &edits[0], "--set", &edits[1]]);
    succeeds(&done);
    peak_of(&stderr(&done), steps)
}

/// What the run said of pre-training.
#[cfg(target_os = "linux")]
fn peak_of(told: &str, steps: u32) -> u64 {
    let start = format!("pretrain {steps} steps done with at most ");
    let mib = told.lines().find_map(|line| line.trim().strip_prefix(&start)?.strip_suffix(" MiB of memory"));
    mib.unwrap().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_over_a_thousand_steps() {
    // The first steps have not met the largest batches yet. Runs alike differ by some MiB, as freed memory
    // waits for its next use; what grows is in every long run.
    let few = peak(300).max(peak(300));
    let many = peak(1300).min(peak(1300));
    assert!(many <= few + few / 20, "{few} MiB in 300 steps, {many} MiB in 1,300");
}

/// A recipe that trains a small model on pictures of 224 pixels.
#[cfg(target_os = "linux")]
fn recipe_of_pictures(folder: &std::path::Path) -> std::path::PathBuf {
    let pictures = folder.join("pictures");
    std::fs::create_dir(&pictures).unwrap();
    for i in 0..60_u32 {
        let path = pictures.join(format!("{i:02}.jpg"));
        let colour = |x: u32, y: u32| image::Rgb([x, y, x * y + i].map(|v| v as u8));
        image::RgbImage::from_fn(300, 260, colour).save(&path).unwrap();
        std::fs::write(path.with_extension("txt"), format!("a pattern of colours, number {i}")).unwrap();
    }
    let tiny = std::fs::read_to_string(crate::TINY).unwrap();
    let model = tiny
        .split("[data.")
        .next()
        .unwrap()
        .replace("image_size = 16\npatch = 8", "image_size = 224\npatch = 56");
    let stage = format!(
        "[data.captioned]\nkind = \"folder\"\npath = {pictures:?}\n[[stage]]\nname = \"pretrain\"\nkind = \
         \"pretrain\"\n\
         mixture = {{ captioned = 1.0 }}\nsteps = 30\nrows = 8\nlength = 192\n"
    );
    let file = folder.join("pictures.toml");
    std::fs::write(&file, model + &stage).unwrap();
    file
}

#[test]
#[cfg(target_os = "linux")]
fn the_plan_knows_what_a_run_on_pictures_holds() {
    let dir = tempfile::tempdir().unwrap();
    let recipe = recipe_of_pictures(dir.path());
    let (recipe, out) = (recipe.to_str().unwrap(), dir.path().join("run"));
    let plan = crate::mm1(&["plan", recipe, "--json"]).output().unwrap();
    succeeds(&plan);
    let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
    let bill = &plan["memory"]["pretrain"];
    let (planned, loader) = (bill["mib"].as_u64().unwrap(), bill["loader_mib"].as_u64().unwrap());
    let done = crate::mm1(&["run", recipe, "--out", out.to_str().unwrap()]).output().unwrap();
    succeeds(&done);
    assert!(
        stderr(&done).contains(&format!("MiB of memory, of it loader {loader} MiB")),
        "{}",
        stderr(&done)
    );
    let measured = peak_of(&stderr(&done), 30);
    eprintln!("planned {planned} MiB, of it loader {loader}, measured {measured}: {bill}");
    let pictures = (bill["images"].as_u64().unwrap() * 224 * 224 * 3) >> 20;
    assert!(loader > 3 * pictures, "three batches of bytes, {pictures} MiB each");
    assert!(planned > 3 * pictures + 8 * pictures, "and two of f32");
    // How full the loader is depends on who is faster; the rest is there in any case.
    let near = measured * 15 / 100 + ALLOWANCE_MIB;
    assert!(measured <= planned + near, "planned {planned} MiB, measured {measured} MiB");
    assert!(
        planned - loader <= measured + near,
        "planned {planned} MiB, loader {loader}, measured {measured} MiB"
    );
}

#[test]
fn activation_checkpointing_gives_the_same_digits() {
    let (saved, again) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    succeeds(&run(saved.path(), &[]));
    let edits =
        ["encoder", "pretrain", "sft"].map(|stage| format!("stage.{stage}.activation_checkpointing=true"));
    let arguments: Vec<&str> = edits.iter().flat_map(|edit| ["--set", edit]).collect();
    succeeds(&run(again.path(), &arguments));
    assert_eq!(losses(saved.path()), losses(again.path()));
}

/// Frozen weights have no gradients and no moments, in the plan and in the run.
#[test]
#[cfg(target_os = "linux")]
fn the_plan_knows_what_is_frozen() {
    let wide = ["model.lm.dim=256", "model.lm.heads=4", "model.lm.kv_heads=2", "model.lm.ffn=1024"];
    let short = [
        "stage.encoder.steps=1",
        "stage.pretrain.steps=3",
        "stage.sft.steps=1",
        "stage.few-shot.questions=1",
    ];
    let mut found = Vec::new();
    for trained in [
        "seed=3",
        "stage.pretrain.optimizer.freeze=[\"lm\"]",
        "stage.pretrain.adapter={rank=8,targets=[\"q\",\"k\",\"v\",\"out\",\"gate\",\"up\",\"down\"]}",
    ] {
        let edits = [&wide[..], &short, &["model.lm.layers=10", trained]].concat();
        let edits: Vec<&str> = edits.into_iter().flat_map(|edit| ["--set", edit]).collect();
        let plan = crate::mm1(&["plan", crate::TINY, "--json"]).args(&edits).output().unwrap();
        succeeds(&plan);
        let plan: serde_json::Value = serde_json::from_slice(&plan.stdout).unwrap();
        let planned = plan["memory"]["pretrain"]["mib"].as_u64().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let done = run(dir.path(), &edits);
        succeeds(&done);
        let measured = peak_of(&stderr(&done), 3);
        assert!(
            planned.abs_diff(measured) <= measured / 10 + ALLOWANCE_MIB,
            "{trained}: {planned}, {measured}"
        );
        found.push((planned, measured));
    }
    // Of 10 million parameters: 12 bytes each for gradients and moments.
    let [all, frozen, adapters] = found[..] else { panic!("three plans") };
    assert!(all.0 > frozen.0 + 70 && all.1 > frozen.1 + 70, "{found:?}");
    assert!(all.0 > adapters.0 + 70 && all.1 > adapters.1 + 70, "{found:?}");
}

//! Captions of a folder on disk.

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;

use mm1_data::question::Question;
use mm1_data::source::folder::Folder;
use mm1_eval::run::evaluate;
use mm1_eval::shots::{self, Style};
use mm1_eval::task::Task;
use mm1_eval::tasks::folder::FolderCaptions;

use crate::toy::{answer_by_prompt, options};

/// Ten pictures; the damaged ones are cut short.
fn folder(damaged: &[usize]) -> (tempfile::TempDir, FolderCaptions) {
    let root = tempfile::tempdir().unwrap();
    for i in 0..10 {
        let file = root.path().join(format!("{i}.png"));
        image::RgbImage::from_pixel(8, 8, image::Rgb([i as u8 * 20, 0, 0])).save(&file).unwrap();
        fs::write(file.with_extension("txt"), format!("a red square of shade {i}")).unwrap();
        if damaged.contains(&i) {
            let bytes = fs::read(&file).unwrap();
            fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
        }
    }
    let folder = Arc::new(Folder::open("squares", root.path(), 0.3, 1).unwrap());
    (root, FolderCaptions { name: "squares-captions".into(), folder, max_tokens: 16 })
}

#[test]
fn the_held_out_part_is_described_after_training_pictures() {
    let (_root, task) = folder(&[]);
    let (tests, train) = (task.tests(), task.demonstrations());
    assert!(tests >= 1 && train >= 5 && tests + train == 10, "{tests} and {train}");
    let outcome = evaluate(&task, 5, Style::Pretrained, &mut answer_by_prompt, &options()).unwrap();
    assert_eq!(outcome.score.n as u64, tests);
    assert_eq!(outcome.rows[0].hashes.len(), 6);
    assert!(outcome.rows[0].prompt.starts_with("<image>A photo of a red square of shade "));
    assert!(outcome.skipped.is_empty());
}

#[test]
fn damaged_pictures_are_listed_by_name() {
    let (_root, task) = folder(&(0..10).collect::<Vec<_>>());
    let error = evaluate(&task, 0, Style::Pretrained, &mut answer_by_prompt, &options()).unwrap_err();
    assert!(error.to_string().contains(".png"), "{error}");
    let (_root, task) = folder(&[0, 1, 2, 3]);
    let mut skipped = BTreeMap::new();
    let mut readable = 0;
    let test = Question { pictures: Vec::new(), ..whole() };
    while shots::draw(&task, (readable + 1, 1), &test, &mut skipped).is_ok() {
        readable += 1;
    }
    assert_eq!(readable + skipped.len(), task.demonstrations() as usize);
    assert!(skipped.values().all(|reason| reason.contains(".png")), "{skipped:?}");
}

fn whole() -> Question {
    let (_root, task) = folder(&[]);
    task.test(0).unwrap()
}

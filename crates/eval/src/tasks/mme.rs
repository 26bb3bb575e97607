//! MME (Fu et al. 2023, arXiv 2306.13394): two questions about each picture, one to be answered with yes and
//! one with no; scores by category. There is no training split, so other questions are demonstrated.
//! [`crate::score::yes_no::figures`] has `accuracy+`.
//!
//! - `CATEGORY/NAME.txt` beside `CATEGORY/NAME.jpg` or `.png`; in some categories
//!   `CATEGORY/questions_answers_YN/NAME.txt` and `CATEGORY/images/NAME.jpg`: of
//!   `MME_Benchmark_release_version`. A line is a question, a tab, and `Yes` or `No`.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use mm1_data::question::Question;
use mm1_data::text_file;

use super::benchmark::{Benchmark, BenchmarkItem};
use super::picture::PictureLocation;
use super::reader::{BenchmarkFolder, entries};
use crate::metric::Metric;

const LAYOUT: &str =
    "a folder for each category (of MME_Benchmark_release_version) with texts beside pictures";

/// Opens the set.
///
/// # Errors
/// A file that is missing or has another form.
pub fn open(root: &Path) -> Result<Benchmark> {
    let mut tests = Vec::new();
    for category in BenchmarkFolder::new(root, LAYOUT).folders()? {
        let folder = root.join(&category);
        let apart = folder.join("questions_answers_YN");
        let (texts, pictures) =
            if apart.is_dir() { (apart, folder.join("images")) } else { (folder.clone(), folder) };
        for text in entries(&texts)? {
            if text.extension().is_some_and(|ending| ending == "txt") {
                let items = items(&category, &text, &pictures);
                tests.extend(items.with_context(|| text.display().to_string())?);
            }
        }
    }
    ensure!(!tests.is_empty(), "{} has no question; it has to hold: {LAYOUT}", root.display());
    Ok(Benchmark::of_tests("mme", Metric::YesNo, tests))
}

/// The questions about one picture.
fn items(category: &str, text: &Path, pictures: &Path) -> Result<Vec<BenchmarkItem>> {
    let name = text.file_stem().unwrap_or_default();
    let picture = picture(&pictures.join(name))?;
    let content = text_file::read(text)?;
    let lines = content.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let item = |(i, line): (usize, &str)| {
        let (question, answer) = line.trim().rsplit_once('\t').unwrap_or_default();
        let answer = answer.to_lowercase();
        ensure!(answer == "yes" || answer == "no", "line {}: not a question, a tab, and Yes or No", i + 1);
        Ok(BenchmarkItem {
            question: Question {
                id: format!("mme/{category}/{}/{i}", name.to_string_lossy()),
                category: category.to_owned(),
                text: question.trim().to_owned(),
                answers: vec![answer],
                ..Question::default()
            },
            pictures: vec![PictureLocation::File(picture.clone())],
        })
    };
    lines.map(item).collect()
}

/// The picture with this name and one of the usual endings.
fn picture(name: &Path) -> Result<PathBuf> {
    let named = ["jpg", "png", "jpeg"].map(|ending| PathBuf::from(format!("{}.{ending}", name.display())));
    let found = named.into_iter().find(|path| path.exists());
    found.with_context(|| format!("its picture {}.jpg or .png is missing", name.display()))
}

//! Measures of the image encoder alone: k nearest neighbours, a linear and an attentive probe, and for a
//! contrastive one zero-shot classification and retrieval; beside raw pixels and an encoder of random
//! weights.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use burn::tensor::{Tensor, TensorData};
use mm1_data::image::{normalise_into, prepare};
use mm1_data::source::{Source, Split};
use mm1_eval::metric::Metric;
use mm1_eval::no_answer::NoAnswerCounts;
use mm1_eval::probe::{LabelledVectors, nearest, retrieval, zero_shot};
use mm1_eval::result::TaskScore;
use mm1_eval::score::bootstrap;
use mm1_model::vision::Vision;
use mm1_model::{Compute, Mm1};
use mm1_train::objective::probe::{self as features, Probe};

use crate::context::Context;
use crate::error::InputError;
use crate::evaluation::{replace_scores, scores};
use crate::output::tell;
use crate::progress::Progress;
use crate::recipe::{ProbeStage, Recipe};
use crate::stage::dual_encoder::DualEncoder;
use crate::stage::model;

/// Images or texts that go through a network together.
const BATCH: usize = 64;
/// Side to which raw pixels are averaged where a picture is larger.
const PIXELS: usize = 32;
/// Side to which the raw pixels of a patch are averaged where it is larger.
const PATCH: usize = 8;

/// Measures the encoder; a stage whose scores are in `eval.json` is not done again.
pub(crate) fn run(context: &Context, stage: &ProbeStage) -> Result<()> {
    if scores(context.folder.root())?.iter().any(|score| score.stage == stage.name) {
        return Ok(());
    }
    let (plan, root) = (&context.plan, context.folder.root());
    let recipe = plan.recipe.as_of(&stage.name);
    let probe = ProbeRun { context, stage, recipe, scores: Vec::new() };
    let vision = model::encoder_before(&plan.recipe, root, &stage.name, plan.compute.device())?;
    probe.all(&vision)
}

/// Images as vectors.
struct Features {
    /// `[n, d]`
    pictures: Vec<f32>,
    /// Of their patches, `[n, p, d]`; none without an attentive probe.
    patches: Vec<f32>,
}

/// From images to the vectors that a probe is given: an encoder's features, or pixels.
type Representation<'a> = dyn Fn(&ProbeImages) -> Result<Features> + 'a;

/// What images score in one task.
struct ProbeScores<'a> {
    /// The representation of the images; that of the encoder is "".
    of: &'a str,
    task: &'a str,
    /// Of each image, from 0 to 100.
    scores: Vec<f64>,
}

struct ProbeRun<'a> {
    context: &'a Context,
    stage: &'a ProbeStage,
    /// With the size of pictures that the encoder was trained with last.
    recipe: Recipe,
    scores: Vec<TaskScore>,
}

/// Images as the encoder takes them, with their texts.
struct ProbeImages {
    /// Each `[s, s, 3]`, normalised.
    pixels: Vec<Vec<f32>>,
    texts: Vec<String>,
}

impl ProbeRun<'_> {
    fn all(mut self, vision: &Vision) -> Result<()> {
        let plan = &self.context.plan;
        // What is wrong with it is said before the long part.
        let pair = DualEncoder::before(self.context, &self.stage.name, vision)?;
        let source = plan.sources.named(&self.stage.classes);
        let train = self.pictures(source, Split::Train, self.stage.train)?;
        let test = self.pictures(source, Split::Test, self.stage.test)?;
        let names = classes(source, [&train, &test]);
        let compute = &plan.compute;
        let fresh = Mm1::encoder(&self.recipe.model, plan.recipe.seed, compute.device())?;
        let representations: [(&str, &Representation<'_>); 3] = [
            ("", &|pictures| self.features(vision, pictures)),
            ("random", &|pictures| self.features(&fresh, pictures)),
            ("pixels", &|pictures| Ok(self.pixels(pictures))),
        ];
        let mut found = Vec::new();
        for (of, vectors) in representations {
            let mut push = |task, scores| found.push(ProbeScores { of, task, scores });
            let (of_train, of_test) = (vectors(&train)?, vectors(&test)?);
            if !self.context.ranks.is_first() {
                continue;
            }
            let (trained, tested) =
                (labelled(of_train.pictures, &train, &names)?, labelled(of_test.pictures, &test, &names)?);
            push("knn", nearest(&trained, &tested, self.stage.neighbours));
            let (trained, tested) = (features(trained, 1), features(tested, 1));
            let probe = Probe::linear(compute, &trained, names.len())?;
            push("linear-probe", correct(compute, &probe, &tested));
            if self.stage.attentive {
                let patches = self.recipe.model.vision.grid().pow(2);
                let trained = features(labelled(of_train.patches, &train, &names)?, patches);
                let tested = features(labelled(of_test.patches, &test, &names)?, patches);
                let probe = Probe::attentive(compute, &trained, names.len())?;
                push("attentive-probe", correct(compute, &probe, &tested));
            }
        }
        let attentive = self.stage.attentive.then_some("attentive-probe");
        if self.context.ranks.is_first() {
            for task in ["knn", "linear-probe"].into_iter().chain(attentive) {
                self.record(task, Metric::Accuracy, &found, 100.0 / names.len() as f64);
            }
        }
        if let Some(pair) = pair {
            self.contrastive(&pair, &test, &names)?;
        }
        match self.context.ranks.is_first() {
            true => replace_scores(&self.context.folder, &self.stage.name, self.scores),
            false => Ok(()),
        }
    }

    /// What needs a text tower.
    fn contrastive(&mut self, pair: &DualEncoder, test: &ProbeImages, names: &[String]) -> Result<()> {
        let prompts: Vec<String> = names.iter().map(|name| self.stage.prompt.replace("{}", name)).collect();
        let classes = self.text_vectors(pair, &prompts)?;
        let pictures = self.picture_vectors(pair, test)?;
        if self.context.ranks.is_first() {
            let scores = zero_shot(&labelled(pictures, test, names)?, &classes);
            let found = ProbeScores { of: "", task: "zero-shot", scores };
            self.record("zero-shot", Metric::Accuracy, &[found], 100.0 / names.len() as f64);
        }
        let Some(source) = &self.stage.captions else { return Ok(()) };
        let pairs = self.pictures(self.context.plan.sources.named(source), Split::Test, self.stage.pairs)?;
        let (pictures, texts) = (self.picture_vectors(pair, &pairs)?, self.text_vectors(pair, &pairs.texts)?);
        if !self.context.ranks.is_first() {
            return Ok(());
        }
        let mut first = BTreeMap::new();
        let same: Vec<usize> = pairs
            .texts
            .iter()
            .enumerate()
            .map(|(i, text)| *first.entry(text.as_str()).or_insert(i))
            .collect();
        let dim = texts.len() / pairs.texts.len();
        let chance = 100.0 / pairs.texts.len() as f64;
        let directions = ["image-to-text", "text-to-image"];
        for (direction, scores) in directions.into_iter().zip(retrieval(&pictures, &texts, dim, &same)) {
            let task = format!("retrieval/{direction}");
            self.record(&task, Metric::RecallAt1, &[ProbeScores { of: "", task: &task, scores }], chance);
        }
        Ok(())
    }

    /// The first `most` pictures of a source with their texts.
    fn pictures(&self, source: &Arc<dyn Source>, split: Split, most: u64) -> Result<ProbeImages> {
        let count = source.len(split).unwrap_or(u64::MAX).min(most);
        let mut progress = Progress::new(&self.stage.name, 0, count);
        let mut pictures = ProbeImages { pixels: Vec::new(), texts: Vec::new() };
        let image = &self.recipe.image_spec();
        for index in 0..count {
            self.context.check_stop()?;
            // An image that can't be read is named, and not scored.
            let document = match source.document(split, index) {
                Ok(document) => document,
                Err(e) => {
                    tell(format_args!("{:>14} skipped {}/{index}: {e:#}", self.stage.name, split.name()));
                    continue;
                }
            };
            let picture = document.pictures().next();
            let picture =
                picture.with_context(|| InputError::new(format!("{} has no picture", document.id)))?;
            let mut pixels = Vec::new();
            normalise_into(&prepare(picture, image)?, image, &mut pixels);
            pictures.pixels.push(pixels);
            pictures.texts.push(document.texts().collect::<String>().trim().to_owned());
            progress.update(index + 1, &format!("{} pictures", split.name()));
        }
        ensure!(
            !pictures.texts.is_empty(),
            InputError::new(format!("stage {}: there are no {} pictures", self.stage.name, split.name()))
        );
        Ok(pictures)
    }

    /// The encoder's features.
    fn features(&self, vision: &Vision, pictures: &ProbeImages) -> Result<Features> {
        let found = self.in_batches(&pictures.pixels, |batch| {
            let tokens = vision.tokens(&self.context.plan.compute, self.tensor(batch));
            let mut values: Vec<f32> = vision.pooled(&tokens).into_data().iter::<f32>().collect();
            if self.stage.attentive {
                values.extend(vision.without_class(tokens).into_data().iter::<f32>());
            }
            Ok(values)
        })?;
        let mut vectors = Features { pictures: Vec::new(), patches: Vec::new() };
        for (batch, values) in pictures.pixels.chunks(BATCH).zip(found) {
            let (pictures, patches) = values.split_at(batch.len() * vision.dim());
            vectors.pictures.extend_from_slice(pictures);
            vectors.patches.extend_from_slice(patches);
        }
        Ok(vectors)
    }

    /// Their pixels, averaged.
    fn pixels(&self, pictures: &ProbeImages) -> Features {
        let vision = &self.recipe.model.vision;
        let [side, patch] = [vision.image_size, vision.patch];
        let small = |pixels: &Vec<f32>| shrunk(pixels, side, PIXELS);
        let cut = |pixels: &Vec<f32>| patches(pixels, side, patch);
        let attentive = self.stage.attentive;
        Features {
            pictures: pictures.pixels.iter().flat_map(small).collect(),
            patches: pictures.pixels.iter().filter(|_| attentive).flat_map(cut).collect(),
        }
    }

    /// `n` pictures as one tensor `[n, s, s, 3]` on the run's device.
    fn tensor(&self, pictures: &[Vec<f32>]) -> Tensor<4> {
        let plan = &self.context.plan;
        let side = self.recipe.model.vision.image_size;
        let shape = [pictures.len(), side, side, 3];
        Tensor::from_data(TensorData::new(pictures.concat(), shape), plan.compute.device())
    }

    /// `[n, e]`
    fn picture_vectors(&self, pair: &DualEncoder, pictures: &ProbeImages) -> Result<Vec<f32>> {
        let compute = &self.context.plan.compute;
        let network = |batch: &[Vec<f32>]| Ok(values(pair.embed_pictures(compute, self.tensor(batch))));
        Ok(self.in_batches(&pictures.pixels, network)?.concat())
    }

    /// `[n, e]`
    fn text_vectors(&self, pair: &DualEncoder, texts: &[String]) -> Result<Vec<f32>> {
        let network = |batch: &[String]| Ok(values(pair.embed_texts(&self.context.plan.compute, batch)?));
        Ok(self.in_batches(texts, network)?.concat())
    }

    /// What the network makes of each batch. The ranks take them in turn, and the first has them all.
    fn in_batches<T>(
        &self,
        items: &[T],
        network: impl Fn(&[T]) -> Result<Vec<f32>>,
    ) -> Result<Vec<Vec<f32>>> {
        let batches: Vec<&[T]> = items.chunks(BATCH).collect();
        self.context.ranks.take_turns(&self.context.stop, &batches, |batch| {
            self.context.check_stop()?;
            network(batch)
        })
    }

    /// Records the scores of `task` for each representation; the first is the encoder's own.
    fn record(&mut self, task: &str, metric: Metric, found: &[ProbeScores<'_>], chance: f64) {
        let seed = self.context.plan.recipe.seed;
        let of_task = found.iter().filter(|found| found.task == task);
        let scores: Vec<_> = of_task.map(|found| (found.of, bootstrap::mean(&found.scores, seed))).collect();
        let others = scores.iter().filter(|(of, _)| !of.is_empty());
        let mut baselines: BTreeMap<String, f64> =
            others.map(|(of, score)| (of.to_string(), score.value)).collect();
        baselines.insert("chance".to_owned(), chance);
        let shown = scores.iter().map(|(of, score)| {
            let [low, high] = score.ci95;
            format!(
                "{}{:.1} [{low:.1}, {high:.1}]",
                if of.is_empty() { String::new() } else { format!("{of} ") },
                score.value
            )
        });
        tell(format_args!(
            "{:>14} {task} {}, chance {chance:.1}",
            self.stage.name,
            shown.collect::<Vec<_>>().join(", ")
        ));
        for (of, score) in scores {
            let own = of.is_empty();
            self.scores.push(TaskScore {
                stage: self.stage.name.clone(),
                task: if own { task.to_owned() } else { format!("{task}/{of}") },
                shots: 0,
                metric,
                score,
                baselines: if own { baselines.clone() } else { BTreeMap::new() },
                also: BTreeMap::new(),
                no_answers: NoAnswerCounts::default(),
                contamination: None,
            });
        }
    }
}

/// The classes: those that the source names, else all texts in the order of the alphabet.
fn classes(source: &Arc<dyn Source>, pictures: [&ProbeImages; 2]) -> Vec<String> {
    let seen = || {
        let mut texts: Vec<String> = pictures.iter().flat_map(|p| p.texts.iter().cloned()).collect();
        texts.sort();
        texts.dedup();
        texts
    };
    source.classes().unwrap_or_else(seen)
}

fn values(vectors: Tensor<2>) -> Vec<f32> {
    vectors.into_data().iter::<f32>().collect()
}

fn labelled(vectors: Vec<f32>, pictures: &ProbeImages, names: &[String]) -> Result<LabelledVectors> {
    let number: BTreeMap<&str, usize> = names.iter().map(String::as_str).zip(0..).collect();
    let label = |text: &String| {
        let label = number.get(text.as_str()).copied();
        label.with_context(|| InputError::new(format!("\"{text}\" is none of the source's classes")))
    };
    let labels = pictures.texts.iter().map(label).collect::<Result<Vec<_>>>()?;
    Ok(LabelledVectors { dim: vectors.len() / labels.len(), vectors, labels })
}

/// As a probe takes them, `tokens` vectors a picture.
fn features(of: LabelledVectors, tokens: usize) -> features::Labelled {
    features::Labelled { tokens, dim: of.dim / tokens, features: of.vectors, labels: of.labels }
}

/// 100 for each picture that the probe knows, 0 for the others.
fn correct(compute: &Compute, probe: &Probe, test: &features::Labelled) -> Vec<f64> {
    let classes = probe.classify(compute, test);
    let score = |(class, label): (usize, &usize)| if class == *label { 100.0 } else { 0.0 };
    classes.into_iter().zip(&test.labels).map(score).collect()
}

/// The patches of a picture `[s, s, 3]`, row by row, each averaged: `[p, d]`.
fn patches(pixels: &[f32], side: usize, patch: usize) -> Vec<f32> {
    let across = side / patch;
    let cut = |at: usize| {
        let (top, left) = (at / across * patch, at % across * patch);
        let rows = (top..top + patch).map(|y| &pixels[(y * side + left) * 3..][..patch * 3]);
        shrunk(&rows.flatten().copied().collect::<Vec<_>>(), patch, PATCH)
    };
    (0..across * across).flat_map(cut).collect()
}

/// A square `[s, s, 3]` averaged over squares, so that no side is longer than `most`.
fn shrunk(pixels: &[f32], side: usize, most: usize) -> Vec<f32> {
    let block = side.div_ceil(most);
    let out = side / block;
    let mut small = vec![0.0; out * out * 3];
    for (y, x) in (0..out * block).flat_map(|y| (0..out * block).map(move |x| (y, x))) {
        for c in 0..3 {
            small[((y / block) * out + x / block) * 3 + c] += pixels[(y * side + x) * 3 + c];
        }
    }
    small
}

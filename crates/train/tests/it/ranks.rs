//! Several ranks give the digits of one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use anyhow::{Result, bail};
use burn::tensor::TensorData;
use mm1_data::batch::Batch;
use mm1_model::aim::{Aim, AimConfig};
use mm1_model::clip::{Clip, Contrast};
use mm1_model::dino::{Centring, Dino, DinoConfig};
use mm1_model::ops::{Composed, Precision};
use mm1_model::superclass::SuperClass;
use mm1_model::{Compute, Mm1, weights};
use mm1_train::{
    Exchange, ExchangePrecision, MomentFormat, Objective, OptimizerConfig, Snapshot, Trainer, exchange,
};
use serde_json::Value;

use crate::encoder::{pairs, small_dino, views, vision};
use crate::step::adapted;
use crate::toy::{batch, compute, config, device, model, text_only};

/// Ranks that are threads.
#[derive(Debug)]
struct Thread {
    rank: usize,
    ranks: usize,
    overlaps: bool,
    computes: AtomicBool,
    calls: Arc<Calls>,
    table: Arc<(Barrier, Mutex<Vec<Vec<u8>>>)>,
}

/// How often the first of them has called, and who exchanged gradients beside the computing of others.
#[derive(Debug, Default)]
struct Calls {
    gather: AtomicUsize,
    gather_at_first: AtomicUsize,
    scatter: AtomicUsize,
    collect: AtomicUsize,
    beside: AtomicUsize,
}

impl Calls {
    /// Of `gather`, `scatter` and `collect`, as training makes them in every step.
    fn of_steps(&self) -> [usize; 3] {
        [&self.gather, &self.scatter, &self.collect].map(|calls| calls.load(Ordering::SeqCst))
    }

    fn beside(&self) -> usize {
        self.beside.load(Ordering::SeqCst)
    }
}

impl Thread {
    fn all(ranks: usize) -> Vec<Arc<dyn Exchange>> {
        Self::counted(ranks, true).0
    }

    /// Those that exchange beside computing, or after it, and what they have called.
    fn counted(ranks: usize, overlaps: bool) -> (Vec<Arc<dyn Exchange>>, Arc<Calls>) {
        let table = Arc::new((Barrier::new(ranks), Mutex::new(vec![Vec::new(); ranks])));
        let calls = Arc::<Calls>::default();
        let rank = |rank| {
            let (table, calls, computes) = (table.clone(), calls.clone(), AtomicBool::new(false));
            Arc::new(Self { rank, ranks, overlaps, computes, calls, table }) as Arc<dyn Exchange>
        };
        ((0..ranks).map(rank).collect(), calls)
    }

    fn count(&self, calls: &AtomicUsize) {
        if self.rank == 0 {
            calls.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// What all give.
    fn share(&self, own: &[u8]) -> Vec<Vec<u8>> {
        let (barrier, table) = &*self.table;
        table.lock().unwrap()[self.rank] = own.to_vec();
        barrier.wait();
        let all = table.lock().unwrap().clone();
        barrier.wait();
        all
    }
}

fn bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|&x| f32::from_le_bytes(x)).collect()
}

impl Exchange for Thread {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn overlaps(&self) -> bool {
        self.overlaps
    }

    fn computes_beside(&self, computes: bool) {
        self.computes.store(computes, Ordering::SeqCst);
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.count(&self.calls.gather);
        Ok(self.share(own))
    }

    fn gather_at_first(&self, own: &[u8]) -> Result<Option<Vec<Vec<u8>>>> {
        self.count(&self.calls.gather_at_first);
        let all = self.share(own);
        Ok((self.rank == 0).then_some(all))
    }

    fn scatter(&self, own: &[f32], parts: &[Range<usize>], given: &mut [f32]) -> Result<()> {
        self.count(&self.calls.scatter);
        let part = |all: Vec<u8>| floats(&all)[parts[self.rank].clone()].to_vec();
        if self.computes.load(Ordering::SeqCst) {
            self.calls.beside.fetch_add(1, Ordering::SeqCst);
        }
        let all: Vec<f32> = self.share(&bytes(own)).into_iter().flat_map(part).collect();
        given.copy_from_slice(&all);
        Ok(())
    }

    fn scatter_halves(&self, own: &[u16], parts: &[Range<usize>], given: &mut [u16]) -> Result<()> {
        self.count(&self.calls.scatter);
        let own: Vec<u8> = own.iter().flat_map(|x| x.to_le_bytes()).collect();
        let part = |all: Vec<u8>| all.as_chunks().0[parts[self.rank].clone()].to_vec();
        let all: Vec<[u8; 2]> = self.share(&own).into_iter().flat_map(part).collect();
        given.iter_mut().zip(all).for_each(|(to, x)| *to = u16::from_le_bytes(x));
        Ok(())
    }

    fn collect(&self, own: &[f32], parts: &[Range<usize>], whole: &mut [f32]) -> Result<()> {
        self.count(&self.calls.collect);
        for (part, of_rank) in parts.iter().zip(self.share(&bytes(own))) {
            whole[part.clone()].copy_from_slice(&floats(&of_rank));
        }
        Ok(())
    }
}

/// A micro-batch of a step: with pictures, without, or with nothing to learn.
fn mixed(step: usize, number: usize) -> Batch {
    let batch = batch(step, 2 * number..2 * number + 2);
    match number % 6 {
        1 => text_only(batch),
        3 => Batch { weights: vec![0.0; batch.weights.len()], ..batch },
        _ => batch,
    }
}

/// A micro-batch of pictures with captions.
fn captioned(step: usize, number: usize) -> Batch {
    pairs(40 * step + 2 * number..40 * step + 2 * number + 1 + number % 2)
}

/// Two large views and two small ones of pictures.
fn viewed(step: usize, number: usize) -> Batch {
    views(40 * step + 2 * number..40 * step + 2 * number + 1 + number % 2)
}

/// Micro-batches of a step of all ranks.
const BATCHES: usize = 12;

/// A micro-batch by step and number.
type MakeBatch = fn(usize, usize) -> Batch;

/// What came of steps: of each the loss, the norm and the sum of other figures, to the bit, and all weights
/// and moments.
type Outcome = (Vec<[u64; 3]>, Snapshot);

/// Steps of `ranks` ranks from `start`.
fn train<M: Objective<Batch = Batch> + 'static>(
    (new, batch): (fn() -> M, MakeBatch),
    config: &OptimizerConfig,
    ranks: usize,
    steps: Range<usize>,
    start: Option<&Snapshot>,
) -> Outcome {
    train_on(&compute(), (&new, batch), config, Thread::all(ranks), (steps, start))
}

/// The same of models on a device.
fn train_on<M: Objective<Batch = Batch> + 'static>(
    compute: &Compute,
    (new, batch): (&(dyn Fn() -> M + Sync), MakeBatch),
    config: &OptimizerConfig,
    exchanges: Vec<Arc<dyn Exchange>>,
    (steps, start): (Range<usize>, Option<&Snapshot>),
) -> Outcome {
    let ranks = exchanges.len();
    let rank = |exchange: Arc<dyn Exchange>| {
        let rank = exchange.rank();
        let mut trainer = Trainer::among(compute, new(), config.clone(), Some(exchange)).unwrap();
        if let Some(start) = start {
            trainer.restore(start.clone()).unwrap();
        }
        let mut losses = Vec::new();
        for step in steps.clone() {
            let all: Vec<Batch> = (0..BATCHES).map(|number| batch(step, number)).collect();
            let (images, weight) = (all.iter().map(Batch::images).sum(), all.iter().map(M::weight).sum());
            let own: Vec<Batch> = all.into_iter().skip(rank).step_by(ranks).collect();
            let report = trainer.step(&own, 1e-2).unwrap();
            let figures = report.figures.values().sum::<f64>();
            losses.push([report.loss, report.grad_norm, figures].map(f64::to_bits));
            assert_eq!((report.images, report.weight), (images, weight));
        }
        (losses, trainer.snapshot_of_all(Value::Null).unwrap())
    };
    let mut all: Vec<_> = thread::scope(|scope| {
        let ranks: Vec<_> = exchanges.into_iter().map(|exchange| scope.spawn(|| rank(exchange))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    assert!(all.iter().all(|(losses, _)| *losses == all[0].0), "ranks disagree");
    assert!(all[1..].iter().all(|(_, snapshot)| snapshot.is_none()));
    let (losses, snapshot) = all.swap_remove(0);
    (losses, snapshot.unwrap())
}

fn aim() -> Aim {
    Aim::new(vision(), &AimConfig { head_layers: 1, head_ffn: 16 }, 4, 7)
}

/// With a table of more than one piece.
fn large() -> Mm1 {
    let mut config = config();
    config.lm.vocab = Some(3000);
    Mm1::new(&config, 7, &device()).unwrap()
}

fn values(data: &TensorData) -> Vec<f32> {
    data.try_to_vec().unwrap()
}

#[test]
fn any_number_of_ranks_gives_the_digits_of_one() {
    for moments in [MomentFormat::F32, MomentFormat::EightBit] {
        let config = OptimizerConfig { moments, ..OptimizerConfig::default() };
        let one = train((large, mixed), &config, 1, 0..3, None);
        assert!(one.0[0] != one.0[2]);
        for ranks in [2, 3, 4] {
            assert!(train((large, mixed), &config, ranks, 0..3, None) == one, "{ranks} ranks, {moments:?}");
        }
    }
    // What draws by the micro-batch or by the picture, dropout and prefixes.
    let config = OptimizerConfig::default();
    let one = train((|| adapted(model()), mixed), &config, 1, 0..3, None);
    assert!(train((|| adapted(model()), mixed), &config, 3, 0..3, None) == one);
    let one = train((aim, captioned), &config, 1, 0..2, None);
    assert!(train((aim, captioned), &config, 3, 0..2, None) == one);
    let classes = || SuperClass::new(vision(), vec![1.0; 50], 7);
    let one = train((classes, captioned), &config, 1, 0..2, None);
    assert!(train((classes, captioned), &config, 3, 0..2, None) == one);
}

/// A gradient is rounded wherever its micro-batch is, and sums are in f32.
#[test]
fn gradients_that_cross_in_bf16_give_the_digits_of_one_rank() {
    let whole = OptimizerConfig::default();
    let config = OptimizerConfig { exchange: ExchangePrecision::Bf16, ..whole.clone() };
    let one = train((large, mixed), &config, 1, 0..3, None);
    for ranks in [2, 3, 4] {
        assert!(train((large, mixed), &config, ranks, 0..3, None) == one, "{ranks} ranks");
    }
    let (_, rounded) = train((large, mixed), &config, 1, 0..1, None);
    let (losses, exact) = train((large, mixed), &whole, 1, 0..1, None);
    assert_eq!(losses[0][0], one.0[0][0], "the first loss is that of the same weights");
    let [norm, of_rounded] = [losses[0][1], one.0[0][1]].map(f64::from_bits);
    assert!(norm != of_rounded && (of_rounded / norm - 1.0).abs() < 1e-3, "{norm} and {of_rounded}");
    for (path, data) in exact.optimizer.iter().filter(|(path, _)| path.ends_with(".m")) {
        let values = [values(data), values(&rounded.optimizer[path])];
        let largest = values[0].iter().fold(0.0_f32, |most, x| most.max(x.abs()));
        for (x, y) in values[0].iter().zip(&values[1]) {
            assert!((x - y).abs() <= largest * 0.05, "{path}: {x} and {y}");
        }
    }
}

/// The digits of exchanges beside the backward pass and after it, of models whose gradients come in one pass,
/// in two, and in part from nowhere.
#[test]
fn an_exchange_beside_the_backward_pass_changes_no_digit() {
    fn compare<M: Objective<Batch = Batch> + 'static>(new: fn() -> M, batch: MakeBatch) -> usize {
        let precisions = [ExchangePrecision::F32, ExchangePrecision::Bf16];
        let of = |exchange: ExchangePrecision| {
            let config = OptimizerConfig { exchange, ..OptimizerConfig::default() };
            let [(beside, count), (after, never)] = [true, false].map(|overlaps| {
                let (exchanges, calls) = Thread::counted(3, overlaps);
                let outcome = train_on(&compute(), (&new, batch), &config, exchanges, (0..2, None));
                (outcome, calls.beside())
            });
            assert!(beside == after, "{exchange:?}");
            assert_eq!(never, 0);
            count
        };
        precisions.map(of)[0]
    }
    // Twelve micro-batches of three ranks, of more than one bucket.
    assert!(compare(large, mixed) > 0, "none crossed beside");
    compare(|| adapted(model()), mixed);
    compare(aim, captioned);
    compare(|| contrast(Contrast::Softmax), captioned);
    compare(|| dino(Centring::Sinkhorn), viewed);
}

/// Buckets that cross while others are computed.
fn buckets<M: Objective>(model: &M) -> usize {
    let count = |(path, shape): (String, Vec<usize>)| (path, shape.iter().product());
    exchange::buckets(weights::shapes(model).into_iter().map(count).collect(), true).len()
}

/// On one machine ranks wait for one another four times in a step: for the weights of its micro-batches, for
/// the gradients of all rounds, for what was found, and for the parameters. It was once for each bucket in
/// each round and for each of the parameters, and once more for notes. Between machines gradients cross
/// beside the backward pass, bucket by bucket.
#[test]
fn ranks_wait_for_one_another_a_few_times_in_a_step() {
    let config = OptimizerConfig::default();
    let (one, buckets) = (train((large, mixed), &config, 1, 0..2, None), buckets(&large()));
    assert!(buckets > 1, "{buckets}");
    for ranks in 1..=4 {
        let rounds = BATCHES / ranks;
        for (overlaps, scattered, collected) in [(false, 1, 1), (true, rounds * buckets, buckets)] {
            let (exchanges, calls) = Thread::counted(ranks, overlaps);
            let outcome = train_on(&compute(), (&large, mixed), &config, exchanges, (0..2, None));
            assert!(outcome == one, "{ranks} ranks, {overlaps}");
            assert_eq!(calls.of_steps(), [2, scattered, collected].map(|calls| 2 * calls), "{ranks} ranks");
        }
    }
    // Features of the first round, then those of all others.
    let (exchanges, calls) = Thread::counted(3, false);
    let new = || contrast(Contrast::Softmax);
    let outcome = train_on(&compute(), (&new, captioned), &config, exchanges, (0..2, None));
    assert!(outcome == train((|| contrast(Contrast::Softmax), captioned), &config, 1, 0..2, None));
    assert_eq!(calls.of_steps(), [4, 1, 1].map(|calls| 2 * calls));
}

/// It was four messages for each tensor of moments.
#[test]
fn the_moments_of_a_checkpoint_cross_together() {
    for moments in [MomentFormat::F32, MomentFormat::EightBit] {
        let config = OptimizerConfig { moments, ..OptimizerConfig::default() };
        let (_, one) = train((large, mixed), &config, 1, 0..1, None);
        assert!(one.optimizer.len() > 50);
        for ranks in [2, 3, 4] {
            let (exchanges, calls) = Thread::counted(ranks, false);
            let (_, all) = train_on(&compute(), (&large, mixed), &config, exchanges, (0..1, None));
            assert!(all == one, "{ranks} ranks, {moments:?}");
            assert_eq!(calls.gather_at_first.load(Ordering::SeqCst), 1, "{ranks} ranks, {moments:?}");
        }
    }
}

/// What a rank tells the others crosses with what they exchange anyway.
#[test]
fn notes_cross_with_what_was_found() {
    let (exchanges, calls) = Thread::counted(3, false);
    let tell = |exchange: Arc<dyn Exchange>| {
        let rank = exchange.rank();
        let config = OptimizerConfig::default();
        let mut trainer = Trainer::among(&compute(), model(), config, Some(exchange)).unwrap();
        trainer.take_step_telling(&[mixed(0, 6 * rank)], 1e-2, || Ok(vec![rank as u8; 400 * rank])).unwrap()
    };
    let told: Vec<_> = thread::scope(|scope| {
        let ranks: Vec<_> = exchanges.into_iter().map(|exchange| scope.spawn(|| tell(exchange))).collect();
        ranks.into_iter().map(|rank| rank.join().unwrap()).collect()
    });
    assert!(told.iter().all(|told| *told == [vec![], vec![1; 400], vec![2; 800]]));
    assert_eq!(calls.of_steps(), [2, 1, 1]);
    // A process alone asks for its note after the step.
    let mut alone = Trainer::new(&compute(), model(), OptimizerConfig::default()).unwrap();
    assert_eq!(alone.take_step_telling(&[mixed(0, 0)], 1e-2, || Ok(vec![9])).unwrap(), [vec![9]]);
}

/// Neither a thread nor a hook is made where the engine runs the backward pass, as on GPUs.
#[test]
fn what_gives_no_gradient_away_exchanges_after_the_backward_pass() {
    let composed = compute().with_ops(Composed::new(Precision::F32));
    assert!(compute().gives_gradients_away() && !composed.gives_gradients_away());
    let config = OptimizerConfig::default();
    let outcomes = [1, 3].map(|ranks| {
        let (exchanges, calls) = Thread::counted(ranks, true);
        let outcome = train_on(&composed, (&large, mixed), &config, exchanges, (0..2, None));
        assert_eq!(calls.beside(), 0);
        outcome
    });
    assert!(outcomes[0] == outcomes[1]);
}

/// A rank whose exchanges of gradients fail from the second on.
#[derive(Debug)]
struct Cut(Arc<dyn Exchange>, AtomicUsize);

impl Exchange for Cut {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        self.0.gather(own)
    }

    fn gather_at_first(&self, own: &[u8]) -> Result<Option<Vec<Vec<u8>>>> {
        self.0.gather_at_first(own)
    }

    fn scatter(&self, own: &[f32], parts: &[Range<usize>], given: &mut [f32]) -> Result<()> {
        if self.1.fetch_add(1, Ordering::SeqCst) > 0 {
            bail!("the cable was cut");
        }
        self.0.scatter(own, parts, given)
    }

    fn scatter_halves(&self, _: &[u16], _: &[Range<usize>], _: &mut [u16]) -> Result<()> {
        bail!("no gradient crosses in bf16")
    }

    fn collect(&self, own: &[f32], parts: &[Range<usize>], whole: &mut [f32]) -> Result<()> {
        self.0.collect(own, parts, whole)
    }
}

/// Neither hangs: an exchange that fails beside the backward pass, nor a backward pass that fails beside it.
#[test]
fn a_step_ends_with_the_message_of_what_has_failed() {
    let batches: Vec<Batch> = (0..3).map(|number| mixed(0, number)).collect();
    let failed = |model: Mm1, exchange: Arc<dyn Exchange>| {
        let config = OptimizerConfig::default();
        let mut trainer = Trainer::among(&compute(), model, config, Some(exchange)).unwrap();
        let before = weights::parameters(trainer.model());
        let error = trainer.step(&batches, 1e-2).unwrap_err();
        let finite = before.iter().all(|(_, _, values)| values.iter().all(|value| value.is_finite()));
        assert!(!finite || weights::parameters(trainer.model()) == before, "nothing is updated");
        format!("{error:#}")
    };
    let whole = || Thread::all(1).swap_remove(0);
    let cut = Arc::new(Cut(whole(), AtomicUsize::new(0)));
    assert_eq!(failed(large(), cut.clone()), "step 0: the cable was cut");
    assert_eq!(cut.1.load(Ordering::SeqCst), 2, "nothing crosses after it");
    let mut parameters = weights::parameters(&large());
    parameters.iter_mut().filter(|(path, ..)| path == "lm.norm.gamma").for_each(|p| p.2.fill(f32::NAN));
    let damaged = weights::assign(large(), parameters).unwrap();
    let said = failed(damaged, whole());
    assert!(said.starts_with("step 0: the loss is NaN on samples "), "{said}");
}

#[test]
fn a_run_goes_on_with_another_number_of_ranks() {
    for moments in [MomentFormat::F32, MomentFormat::EightBit] {
        let config = OptimizerConfig { moments, ..OptimizerConfig::default() };
        let (losses, end) = train((large, mixed), &config, 1, 0..4, None);
        let (_, first) = train((large, mixed), &config, 3, 0..1, None);
        let (second, middle) = train((large, mixed), &config, 2, 1..3, Some(&first));
        assert_eq!(second, losses[1..3]);
        let (last, snapshot) = train((large, mixed), &config, 4, 3..4, Some(&middle));
        assert_eq!(last, losses[3..]);
        assert!(snapshot == end, "{moments:?}");
    }
}

/// The same up to rounding, since that one adds to its sums inside of the backward pass.
#[test]
fn ranks_do_what_a_process_alone_does() {
    let (losses, all) = train((model, mixed), &OptimizerConfig::default(), 2, 0..2, None);
    let mut alone = Trainer::new(&compute(), model(), OptimizerConfig::default()).unwrap();
    for (step, [loss, norm, _]) in losses.into_iter().enumerate() {
        let batches: Vec<Batch> = (0..BATCHES).map(|number| mixed(step, number)).collect();
        let report = alone.step(&batches, 1e-2).unwrap();
        assert!((report.loss - f64::from_bits(loss)).abs() < 1e-5, "step {step}: {}", report.loss);
        assert!((report.grad_norm - f64::from_bits(norm)).abs() < 1e-4, "step {step}: {}", report.grad_norm);
    }
    let alone: BTreeMap<_, _> = alone.snapshot(Value::Null).optimizer;
    assert!(alone.keys().eq(all.optimizer.keys()));
    for (path, data) in alone.iter().filter(|(path, _)| path.ends_with(".m")) {
        for (x, y) in values(data).into_iter().zip(values(&all.optimizer[path])) {
            assert!((x - y).abs() < 1e-5, "{path}: {x} and {y}");
        }
    }
}

/// What it exchanges lies on the host.
#[cfg(feature = "vulkan")]
#[test]
fn a_rank_on_vulkan_does_what_a_process_alone_does() {
    let Some(vulkan) = crate::toy::vulkan() else { return };
    let new = |exchange| {
        let model = Mm1::new(&config(), 7, &vulkan.training_device()).unwrap();
        Trainer::among(&vulkan, model, OptimizerConfig::default(), exchange).unwrap()
    };
    let (mut rank, mut alone) = (new(Thread::all(1).pop()), new(None));
    for step in 0..3 {
        let batches: Vec<Batch> = (0..4).map(|number| mixed(step, number)).collect();
        let [ours, theirs] = [&mut rank, &mut alone].map(|t| t.step(&batches, 1e-2).unwrap());
        assert!((ours.loss - theirs.loss).abs() < 1e-5, "step {step}: {} and {}", ours.loss, theirs.loss);
        let apart = (ours.grad_norm - theirs.grad_norm).abs();
        assert!(apart < 1e-4, "step {step}: {} and {}", ours.grad_norm, theirs.grad_norm);
    }
}

fn contrast(kind: Contrast) -> Clip {
    Clip::new(vision(), &config().lm, kind, 7).unwrap()
}

/// Every example is compared with all others of its step, whichever rank has them.
#[test]
fn a_contrast_among_ranks_is_that_of_one() {
    let config = OptimizerConfig::default();
    let kinds: [fn() -> Clip; 2] = [|| contrast(Contrast::Softmax), || contrast(Contrast::Sigmoid)];
    for new in kinds {
        let one = train((new, captioned), &config, 1, 0..3, None);
        assert!(one.0[0] != one.0[2]);
        for ranks in [2, 3, 4] {
            assert!(train((new, captioned), &config, ranks, 0..3, None) == one, "{ranks} ranks");
        }
        let mut alone = Trainer::new(&compute(), new(), config.clone()).unwrap();
        for (step, [loss, norm, _]) in one.0.into_iter().enumerate() {
            let batches: Vec<Batch> = (0..BATCHES).map(|number| captioned(step, number)).collect();
            let report = alone.step(&batches, 1e-2).unwrap();
            assert!((report.loss / f64::from_bits(loss) - 1.0).abs() < 1e-4, "step {step}: {}", report.loss);
            let apart = (report.grad_norm / f64::from_bits(norm) - 1.0).abs();
            assert!(apart < 1e-3, "step {step}: {}", report.grad_norm);
            assert!(report.figures["scale"] > 1.0);
        }
    }
}

fn dino(centring: Centring) -> Dino {
    small_dino(DinoConfig { centring, ibot: 1.0, ..DinoConfig::default() })
}

/// The teacher's classes are balanced over the whole step, whichever rank has which pictures.
#[test]
fn self_distillation_among_ranks_is_that_of_one() {
    let config = OptimizerConfig::default();
    let kinds: [fn() -> Dino; 2] = [|| dino(Centring::Centre), || dino(Centring::Sinkhorn)];
    for new in kinds {
        let one = train((new, viewed), &config, 1, 0..3, None);
        assert!(one.0[0] != one.0[2]);
        for ranks in [2, 3, 4] {
            assert!(train((new, viewed), &config, ranks, 0..3, None) == one, "{ranks} ranks");
        }
        // A teacher that follows is the same at all of them, since a run goes on with another number.
        let (_, middle) = train((new, viewed), &config, 3, 0..2, None);
        let (last, end) = train((new, viewed), &config, 2, 2..3, Some(&middle));
        assert_eq!(last, one.0[2..]);
        assert!(end == one.1);
        let mut alone = Trainer::new(&compute(), new(), config.clone()).unwrap();
        for (step, [loss, norm, _]) in one.0.into_iter().enumerate() {
            let batches: Vec<Batch> = (0..BATCHES).map(|number| viewed(step, number)).collect();
            let report = alone.step(&batches, 1e-2).unwrap();
            assert!((report.loss / f64::from_bits(loss) - 1.0).abs() < 1e-4, "step {step}: {}", report.loss);
            let apart = (report.grad_norm / f64::from_bits(norm) - 1.0).abs();
            assert!(apart < 1e-3, "step {step}: {}", report.grad_norm);
            assert!(report.figures["rank"] > 1.0);
        }
    }
}

/// What crosses goes through the host, wherever the model is.
#[cfg(feature = "vulkan")]
#[test]
fn ranks_give_the_digits_of_one_on_vulkan() {
    let Some(vulkan) = crate::toy::vulkan() else { return };
    let new = || Mm1::new(&config(), 7, &vulkan.training_device()).unwrap();
    for moments in [MomentFormat::F32, MomentFormat::EightBit] {
        let config = OptimizerConfig { moments, ..OptimizerConfig::default() };
        let of = |ranks: usize| train_on(&vulkan, (&new, mixed), &config, Thread::all(ranks), (0..2, None));
        let (one, three) = (of(1), of(3));
        assert_eq!(three.0, one.0, "{moments:?}");
        assert!(three.1 == one.1, "{moments:?}");
    }
}

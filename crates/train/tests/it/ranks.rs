//! Several ranks give the digits of one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use anyhow::Result;
use burn::tensor::TensorData;
use mm1_data::batch::Batch;
use mm1_model::Mm1;
use mm1_model::aim::{Aim, AimConfig};
use mm1_model::clip::{Clip, Contrast};
use mm1_model::dino::DinoConfig;
use mm1_train::{Exchange, MomentFormat, Objective, OptimizerConfig, Snapshot, Trainer};
use serde_json::Value;

use crate::encoder::{pairs, vision};
use crate::step::adapted;
use crate::toy::{batch, compute, config, device, model, text_only};

/// Ranks that are threads.
#[derive(Debug)]
struct Thread {
    rank: usize,
    ranks: usize,
    table: Arc<(Barrier, Mutex<Vec<Vec<u8>>>)>,
}

impl Thread {
    fn all(ranks: usize) -> Vec<Arc<dyn Exchange>> {
        let table = Arc::new((Barrier::new(ranks), Mutex::new(vec![Vec::new(); ranks])));
        let rank = |rank| Arc::new(Self { rank, ranks, table: table.clone() }) as Arc<dyn Exchange>;
        (0..ranks).map(rank).collect()
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

    fn gather(&self, own: &[u8]) -> Result<Vec<Vec<u8>>> {
        let (barrier, table) = &*self.table;
        table.lock().unwrap()[self.rank] = own.to_vec();
        barrier.wait();
        let all = table.lock().unwrap().clone();
        barrier.wait();
        Ok(all)
    }

    fn gather_at_first(&self, own: &[u8]) -> Result<Option<Vec<Vec<u8>>>> {
        let all = self.gather(own)?;
        Ok((self.rank == 0).then_some(all))
    }

    fn scatter(&self, own: &[f32], parts: &[Range<usize>]) -> Result<Vec<f32>> {
        let part = |all: Vec<u8>| floats(&all)[parts[self.rank].clone()].to_vec();
        Ok(self.gather(&bytes(own))?.into_iter().flat_map(part).collect())
    }

    fn collect(&self, whole: &mut [f32], parts: &[Range<usize>]) -> Result<()> {
        let own = bytes(&whole[parts[self.rank].clone()]);
        for (part, of_rank) in parts.iter().zip(self.gather(&own)?) {
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

/// Micro-batches of a step of all ranks.
const BATCHES: usize = 12;

/// A micro-batch by step and number.
type MakeBatch = fn(usize, usize) -> Batch;

/// What came of steps: loss and norm of each, to the bit, and all weights and moments.
type Outcome = (Vec<[u64; 2]>, Snapshot);

/// Steps of `ranks` ranks from `start`.
fn train<M: Objective<Batch = Batch> + 'static>(
    (new, batch): (fn() -> M, MakeBatch),
    config: &OptimizerConfig,
    ranks: usize,
    steps: Range<usize>,
    start: Option<&Snapshot>,
) -> Outcome {
    let rank = |exchange: Arc<dyn Exchange>| {
        let rank = exchange.rank();
        let mut trainer = Trainer::among(&compute(), new(), config.clone(), Some(exchange)).unwrap();
        if let Some(start) = start {
            trainer.restore(start.clone()).unwrap();
        }
        let mut losses = Vec::new();
        for step in steps.clone() {
            let all: Vec<Batch> = (0..BATCHES).map(|number| batch(step, number)).collect();
            let (images, weight) = (all.iter().map(Batch::images).sum(), all.iter().map(M::weight).sum());
            let own: Vec<Batch> = all.into_iter().skip(rank).step_by(ranks).collect();
            let report = trainer.step(&own, 1e-2).unwrap();
            losses.push([report.loss.to_bits(), report.grad_norm.to_bits()]);
            assert_eq!((report.images, report.weight), (images, weight));
        }
        (losses, trainer.snapshot_of_all(Value::Null).unwrap())
    };
    let mut all: Vec<_> = thread::scope(|scope| {
        let ranks: Vec<_> =
            Thread::all(ranks).into_iter().map(|exchange| scope.spawn(|| rank(exchange))).collect();
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
    for (step, [loss, norm]) in losses.into_iter().enumerate() {
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
        for (step, [loss, norm]) in one.0.into_iter().enumerate() {
            let batches: Vec<Batch> = (0..BATCHES).map(|number| captioned(step, number)).collect();
            let report = alone.step(&batches, 1e-2).unwrap();
            assert!((report.loss / f64::from_bits(loss) - 1.0).abs() < 1e-4, "step {step}: {}", report.loss);
            let apart = (report.grad_norm / f64::from_bits(norm) - 1.0).abs();
            assert!(apart < 1e-3, "step {step}: {}", report.grad_norm);
            assert!(report.figures["scale"] > 1.0);
        }
    }
}

#[test]
fn what_balances_a_whole_step_is_refused_under_several_ranks() {
    let among = |exchange: Arc<dyn Exchange>| {
        let dino = crate::encoder::small_dino(DinoConfig::default());
        Trainer::among(&compute(), dino, OptimizerConfig::default(), Some(exchange)).map(drop)
    };
    let error = among(Thread::all(2).remove(0)).unwrap_err().to_string();
    assert!(error.contains("by one rank"), "{error}");
    among(Thread::all(1).remove(0)).unwrap();
}

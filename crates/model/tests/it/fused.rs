//! The fused operations beside the composed ones: values, every gradient, frozen parents, no gradients at
//! all.

use burn::tensor::{DType, Device, Tensor, TensorData};
use mm1_kernels::cpu::{Isa, with_isa};
#[cfg(feature = "vulkan")]
use mm1_model::ops::Gpu;
use mm1_model::ops::{
    Activation, Affine, Composed, Dropout, Fused, Heads, Layout, LowRank, MlpMaps, Norm, Operations,
    Precision, QkNorm, Rope, Sight, Span, Weight,
};
use mm1_model::{Compute, weights};

use crate::case;

const ACTIVATIONS: [Activation; 6] = [
    Activation::Identity,
    Activation::Silu,
    Activation::Gelu,
    Activation::QuickGelu,
    Activation::GeluTanh,
    Activation::Swiglu,
];

/// An operation on flat operands, with a flat result.
type Operation<'a> = &'a dyn Fn(&dyn Operations, &[Tensor<1>]) -> Tensor<1>;

/// The seed of the gradient of a result.
const PROBE: usize = 99;

/// `n` numbers in -1 .. 1.
fn numbers(seed: usize, n: usize) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + seed * 104_729 + 13) % 2003) as f32 / 1001.5 - 1.0).collect()
}

fn flat(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let n = values.len();
    Tensor::from_data(TensorData::new(values, [n]), device)
}

/// As f32: the gradient of what a product rounds may be in bfloat16.
fn values(tensor: Tensor<1>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("f32")
}

/// Result and gradients with the operands that `tracked` names, after a run on NaN: what that leaves in
/// memory that is used again must not be seen.
fn run(
    ops: &dyn Operations,
    operation: Operation<'_>,
    sizes: &[usize],
    tracked: impl Fn(usize) -> bool,
) -> Vec<Option<Vec<f32>>> {
    run_on(ops, operation, sizes, (&tracked, &|_, n| vec![f32::NAN; n]));
    run_on(ops, operation, sizes, (&tracked, &numbers))
}

/// Which operands are tracked, and the numbers of each.
type Given<'a> = (&'a dyn Fn(usize) -> bool, &'a dyn Fn(usize, usize) -> Vec<f32>);

fn run_on(
    ops: &dyn Operations,
    operation: Operation<'_>,
    sizes: &[usize],
    given: Given<'_>,
) -> Vec<Option<Vec<f32>>> {
    run_at(&Device::flex(), ops, operation, sizes, given)
}

fn run_at(
    device: &Device,
    ops: &dyn Operations,
    operation: Operation<'_>,
    sizes: &[usize],
    (tracked, numbers): Given<'_>,
) -> Vec<Option<Vec<f32>>> {
    let device = device.clone().autodiff();
    let operands: Vec<Tensor<1>> = sizes
        .iter()
        .enumerate()
        .map(|(i, &n)| {
            let operand = flat(numbers(i, n), &device);
            if tracked(i) { operand.require_grad() } else { operand }
        })
        .collect();
    let result = operation(ops, &operands).cast(DType::F32);
    let probe = flat(numbers(PROBE, result.dims()[0]), &device);
    let grads = (result.clone() * probe).sum().backward();
    let mut out = vec![Some(values(result.inner()))];
    out.extend(operands.iter().map(|operand| operand.grad(&grads).map(values)));
    out
}

/// Fails unless both agree within `tolerance` of the largest value.
#[track_caller]
fn assert_near(name: &str, got: &[f32], wanted: &[f32], tolerance: f32) {
    assert_eq!(got.len(), wanted.len(), "{name}");
    let largest = wanted.iter().fold(1e-20f32, |m, v| m.max(v.abs()));
    for (i, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        let error = (got - wanted).abs() / largest;
        assert!(error <= tolerance, "{name}[{i}]: {got}, not {wanted}: {error:e} of {largest}");
    }
}

/// Checks the fused operation against the composed one, on operands of these sizes.
#[track_caller]
fn check(name: &str, sizes: &[usize], operation: Operation<'_>) {
    check_against(name, sizes, operation, operation);
}

/// Checks the operation on the GPU against what the CPU gave, with the tolerance of [`check`], and that a
/// gradient is the same when others are not wanted; nothing, where there is none.
#[cfg(feature = "vulkan")]
#[track_caller]
fn check_on_vulkan(name: &str, sizes: &[usize], operation: Operation<'_>, wanted: &[Option<Vec<f32>>]) {
    let Some(compute) = case::vulkan() else { return };
    let got = run_at(compute.device(), compute.ops(), operation, sizes, (&|_| true, &numbers));
    for (i, (got, wanted)) in got.iter().zip(wanted).enumerate() {
        let [got, wanted] = [got, wanted].map(|values| values.as_ref().expect("tracked"));
        assert_near(&format!("{name} on vulkan: {i}"), got, wanted, 1e-5);
    }
    // Every other operand, and the others where there are some.
    for odd in [false, true].into_iter().take(sizes.len()) {
        let some =
            run_at(compute.device(), compute.ops(), operation, sizes, (&|i| (i % 2 == 1) == odd, &numbers));
        for (i, (got, some)) in got.iter().zip(&some).enumerate().skip(1) {
            let wanted = got.clone().filter(|_| (i % 2 == 0) == odd);
            assert!(*some == wanted, "{name} on vulkan: gradient {} beside others", i - 1);
        }
    }
}

/// The same with the composed operation written out.
#[track_caller]
fn check_against(name: &str, sizes: &[usize], operation: Operation<'_>, reference: Operation<'_>) {
    let (fused, composed) = (Fused::new(Precision::F32), Composed::new(Precision::F32));
    let got = run(&fused, operation, sizes, |_| true);
    let wanted = run(&composed, reference, sizes, |_| true);
    for (i, (got, wanted)) in got.iter().zip(&wanted).enumerate() {
        let what = if i == 0 { format!("{name}: result") } else { format!("{name}: gradient {}", i - 1) };
        let [got, wanted] = [got, wanted].map(|values| values.as_ref().expect("tracked"));
        assert_near(&what, got, wanted, 1e-5);
    }
    #[cfg(feature = "vulkan")]
    check_on_vulkan(name, sizes, reference, &wanted);
    for only in 0..sizes.len() {
        let one = run(&fused, operation, sizes, |i| i == only);
        for i in 0..sizes.len() {
            let expected = got[i + 1].clone().filter(|_| i == only);
            assert!(one[i + 1] == expected, "{name}: gradient {i} when only {only} is tracked");
        }
    }
    let device = Device::flex();
    let operands: Vec<_> = sizes.iter().enumerate().map(|(i, &n)| flat(numbers(i, n), &device)).collect();
    let plain = values(operation(&fused, &operands));
    assert!(Some(&plain) == got[0].as_ref(), "{name}: another result without gradients");
}

#[test]
fn norms() {
    for (b, t, d) in [(2, 3, 10), (1, 2, 8), (3, 70, 34)] {
        for activation in ACTIVATIONS {
            if activation == Activation::Swiglu && d % 2 == 1 {
                continue;
            }
            let rms = |o: &[Tensor<1>]| Norm::Rms { gamma: o[1].clone(), eps: 1e-5 };
            let layer = |o: &[Tensor<1>]| Norm::Layer { gamma: o[1].clone(), beta: o[2].clone(), eps: 1e-5 };
            let x = |o: &[Tensor<1>]| o[0].clone().reshape([b, t, d]);
            check("rms", &[b * t * d, d], &|ops, o| {
                ops.norm_activation(x(o), &rms(o), activation).flatten(0, 2)
            });
            check("layer", &[b * t * d, d, d], &|ops, o| {
                ops.norm_activation(x(o), &layer(o), activation).flatten(0, 2)
            });
        }
    }
}

/// `x w`, or `x w + bias`.
fn affine(weight: impl Into<Weight>, bias: Option<&Tensor<1>>) -> Affine {
    Affine { weight: weight.into(), bias: bias.cloned() }
}

#[test]
fn linear_maps() {
    for (b, t, i, o) in [(2, 3, 10, 7), (1, 2, 8, 1), (3, 70, 33, 28)] {
        let x = |o: &[Tensor<1>]| o[0].clone().reshape([b, t, i]);
        let w = |operands: &[Tensor<1>]| operands[1].clone().reshape([i, o]);
        check("linear", &[b * t * i, i * o, o], &|ops, p| {
            ops.linear(x(p), affine(w(p), Some(&p[2]))).flatten(0, 2)
        });
        check("linear without bias", &[b * t * i, i * o], &|ops, p| {
            ops.linear(x(p), w(p).into()).flatten(0, 2)
        });
        let norm = |p: &[Tensor<1>]| Norm::Layer { gamma: p[3].clone(), beta: p[4].clone(), eps: 1e-3 };
        check("norm, linear", &[b * t * i, i * o, o, i, i], &|ops, p| {
            ops.norm_linear(x(p), &norm(p), affine(w(p), Some(&p[2]))).flatten(0, 2)
        });
        let rms = |p: &[Tensor<1>]| Norm::Rms { gamma: p[2].clone(), eps: 1e-3 };
        check("RMSNorm, linear", &[b * t * i, i * o, i], &|ops, p| {
            ops.norm_linear(x(p), &rms(p), w(p).into()).flatten(0, 2)
        });
        let table = |p: &[Tensor<1>]| p[1].clone().reshape([o, i]);
        check("logits", &[b * t * i, i * o], &|ops, p| {
            ops.linear(x(p), Weight::Table(table(p)).into()).flatten(0, 2)
        });
    }
}

#[test]
fn activations_linear_and_residual() {
    for (b, t, f, o) in [(2, 3, 10, 7), (3, 70, 33, 28)] {
        for activation in ACTIVATIONS {
            let wide = if activation == Activation::Swiglu { 2 * f } else { f };
            let h = |p: &[Tensor<1>]| p[0].clone().reshape([b, t, wide]);
            let w = |p: &[Tensor<1>]| p[1].clone().reshape([f, o]);
            let residual = |p: &[Tensor<1>]| Some(p[2].clone().reshape([b, t, o]));
            let sizes = [b * t * wide, f * o, b * t * o, o];
            check("activation, linear, residual", &sizes[..3], &|ops, p| {
                ops.act_linear_residual(h(p), activation, w(p).into(), residual(p)).flatten(0, 2)
            });
            check("activation, linear, bias, residual", &sizes, &|ops, p| {
                let map = affine(w(p), Some(&p[3]));
                ops.act_linear_residual(h(p), activation, map, residual(p)).flatten(0, 2)
            });
        }
    }
}

#[test]
fn mlps() {
    for (b, t, d, f) in [(2, 3, 10, 7), (1, 1, 3, 1), (3, 70, 33, 28)] {
        for activation in ACTIVATIONS {
            let wide = if activation == Activation::Swiglu { 2 * f } else { f };
            let x = |p: &[Tensor<1>]| p[0].clone().reshape([b, t, d]);
            let up = |p: &[Tensor<1>]| p[1].clone().reshape([d, wide]);
            let down = |p: &[Tensor<1>]| p[2].clone().reshape([f, d]);
            let sizes = [b * t * d, d * wide, f * d, d, d, wide, d];
            check("MLP", &sizes[..4], &|ops, p| {
                let norm = Norm::Rms { gamma: p[3].clone(), eps: 1e-3 };
                ops.mlp(x(p), MlpMaps { norm, up: up(p).into(), activation, down: down(p).into() })
                    .flatten(0, 2)
            });
            check("MLP with biases", &sizes, &|ops, p| {
                let norm = Norm::Layer { gamma: p[3].clone(), beta: p[4].clone(), eps: 1e-3 };
                let (up, down) = (affine(up(p), Some(&p[5])), affine(down(p), Some(&p[6])));
                ops.mlp(x(p), MlpMaps { norm, up, activation, down }).flatten(0, 2)
            });
        }
    }
}

#[test]
fn low_rank_maps() {
    for (n, i, o, r) in [(6, 10, 7, 2), (70, 33, 28, 5)] {
        for (activation, rate) in ACTIVATIONS.into_iter().zip([0.0, 0.5, 0.1].into_iter().cycle()) {
            let wide = if activation == Activation::Swiglu { 2 * i } else { i };
            let map = |p: &[Tensor<1>], at: usize, (first, width): (usize, usize)| LowRank {
                a: p[at].clone().reshape([i, r]),
                b: p[at + 1].clone().narrow(0, 0, r * width).reshape([r, width]),
                first,
                scale: 1.5,
                dropout: (rate > 0.0).then(|| Dropout::new(rate, &[7, at as u64])),
            };
            let x = |p: &[Tensor<1>]| p[1].clone().reshape([2, n / 2, wide]);
            let y = |p: &[Tensor<1>]| p[0].clone().reshape([2, n / 2, o]);
            check("one low-rank map", &[n * o, n * wide, i * r, r * o], &|ops, p| {
                ops.add_low_rank(y(p), x(p), activation, &[map(p, 2, (0, o))]).flatten(0, 2)
            });
            let sizes = [n * o, n * wide, i * r, r * (o - 3), i * r, r * 2];
            check("low-rank maps side by side", &sizes, &|ops, p| {
                let maps = [map(p, 2, (3, o - 3)), map(p, 4, (0, 2))];
                ops.add_low_rank(y(p), x(p), activation, &maps).flatten(0, 2)
            });
        }
    }
}

#[test]
fn linear_and_cross_entropy() {
    for (t, d, v, weigh) in [(5, 6, 11, 0.5), (3, 1, 2, 0.0), (600, 9, 33, 2.0), (2, 5, 700, 1.0)] {
        let targets: Vec<u32> = (0..2 * t as u32).map(|i| i * 7 % v as u32).collect();
        let weights: Vec<f32> = (0..2 * t).map(|i| [0.0, weigh, 0.25][i % 3]).collect();
        let x = |p: &[Tensor<1>]| p[0].clone().reshape([2, t, d]);
        let (linear, table) =
            (|p: &[Tensor<1>]| p[1].clone().reshape([d, v]), |p: &[Tensor<1>]| p[1].clone().reshape([v, d]));
        check("linear head", &[2 * t * d, d * v], &|ops, p| {
            ops.linear_cross_entropy(x(p), Weight::Matrix(linear(p)), &targets, &weights)
        });
        check("tied head", &[2 * t * d, d * v], &|ops, p| {
            ops.linear_cross_entropy(x(p), Weight::Table(table(p)), &targets, &weights)
        });
    }
}

#[test]
fn nothing_learned_gives_zeros() {
    let operation = |ops: &dyn Operations, p: &[Tensor<1>]| {
        let (x, w) = (p[0].clone().reshape([1, 2, 3]), p[1].clone().reshape([3, 4]));
        ops.linear_cross_entropy(x, w.into(), &[0, 0], &[0.0, 0.0])
    };
    let got = run(&Fused::new(Precision::F32), &operation, &[6, 12], |_| true);
    assert_eq!(got, [Some(vec![0.0]), Some(vec![0.0; 6]), Some(vec![0.0; 12])]);
}

#[test]
fn embedding_and_image_tokens() {
    let ids = [3, 0, 3, 2, 1, 3, 3, 0];
    let table = |p: &[Tensor<1>]| p[0].clone().reshape([6, 700]);
    check("embedding", &[6 * 700], &|ops, p| ops.embedding(&table(p), &ids, 2, 4).flatten(0, 2));
    let x = |p: &[Tensor<1>]| p[0].clone().reshape([2, 4, 300]);
    check_against(
        "positions",
        &[2 * 4 * 300],
        &|ops, p| ops.at(x(p), &[6, 0, 6, 3]).flatten(0, 2),
        &|_, p| {
            let rows = x(p).reshape([8, 300]);
            Tensor::cat([6, 0, 6, 3].map(|i| rows.clone().narrow(0, i, 1)).to_vec(), 0).flatten(0, 1)
        },
    );
    let operands = |p: &[Tensor<1>]| (p[0].clone().reshape([2, 4, 1100]), p[1].clone().reshape([2, 2, 1100]));
    check("splice", &[8 * 1100, 4 * 1100], &|ops, p| {
        ops.splice(operands(p).0, operands(p).1, &[5, 1]).flatten(0, 2)
    });
}

#[test]
fn convolutions_and_pooling() {
    for (n, h, w, c, o) in [(2, 5, 4, 3, 7), (1, 1, 1, 1, 1), (9, 6, 7, 17, 5)] {
        let x = |p: &[Tensor<1>]| p[0].clone().reshape([n, h, w, c]);
        let weight = |p: &[Tensor<1>]| p[1].clone().reshape([9 * c, o]);
        for stride in [1, 2] {
            check("convolution", &[n * h * w * c, 9 * c * o, o], &|ops, p| {
                ops.conv3x3(x(p), &weight(p), Some(&p[2]), stride).flatten(0, 3)
            });
            check("convolution without bias", &[n * h * w * c, 9 * c * o], &|ops, p| {
                ops.conv3x3(x(p), &weight(p), None, stride).flatten(0, 3)
            });
        }
        let taps = |p: &[Tensor<1>]| p[1].clone().reshape([9, c]);
        check("depthwise", &[n * h * w * c, 9 * c], &|ops, p| ops.depthwise3x3(x(p), &taps(p)).flatten(0, 3));
        for out in [1, 2, 4] {
            check("pooling", &[n * h * w * c], &|ops, p| ops.adaptive_avg_pool(x(p), out).flatten(0, 3));
        }
    }
}

#[test]
fn attention_over_packed_examples() {
    let span = |row, start, len| Span { row, start, len };
    let packed = vec![span(1, 3, 5), span(0, 0, 4), span(0, 4, 1), span(1, 0, 2), span(0, 6, 90)];
    for (heads, kv_heads, width) in [(4, 2, 6), (1, 1, 2), (3, 1, 10)] {
        let heads = Heads { heads, kv_heads, width };
        let (b, t) = (2, 150);
        let rope = Rope::new(100.0, width, 90);
        for (narrow, wide) in [
            (Sight::All, Sight::All),
            (Sight::Causal, Sight::Causal),
            (Sight::Prefix(vec![3, 1, 9, 0, 41]), Sight::Prefix(vec![70, 150])),
        ] {
            for (layout, rope) in [
                (Layout { spans: packed.clone(), sight: narrow }, Some(&rope)),
                (Layout::full(b, t, wide), None),
            ] {
                let qkv = |p: &[Tensor<1>]| p[0].clone().reshape([b, t, heads.qkv_width()]);
                check("attention", &[b * t * heads.qkv_width()], &|ops, p| {
                    ops.attention(qkv(p), heads, &layout, rope).flatten(0, 2)
                });
            }
        }
    }
}

#[test]
fn norms_of_query_and_key_heads() {
    for (heads, kv_heads, width, t) in [(4, 2, 6, 3), (1, 1, 2, 1), (3, 1, 34, 70)] {
        let heads = Heads { heads, kv_heads, width };
        check("norms of heads", &[2 * t * heads.qkv_width(), width, width], &|ops, p| {
            let norm = QkNorm { q: p[1].clone(), k: p[2].clone(), eps: 1e-3 };
            ops.qk_norm(p[0].clone().reshape([2, t, heads.qkv_width()]), heads, &norm).flatten(0, 2)
        });
    }
}

#[test]
fn attention_of_queries_over_patches() {
    for (n, queries, keys, heads, width) in [(2, 3, 7, 2, 5), (9, 17, 40, 3, 10)] {
        let d = heads * width;
        let q = |p: &[Tensor<1>]| p[0].clone().reshape([n, queries, d]);
        let kv = |p: &[Tensor<1>]| p[1].clone().reshape([n, keys, 2 * d]);
        check("cross-attention", &[n * queries * d, n * keys * 2 * d], &|ops, p| {
            ops.cross_attention(q(p), kv(p), heads).flatten(0, 2)
        });
    }
}

#[test]
fn gates_and_activations_of_sums() {
    for (n, p, c) in [(2, 3, 10), (3, 70, 34)] {
        let x = |o: &[Tensor<1>]| o[0].clone().reshape([n, p, c]);
        let gates = |o: &[Tensor<1>]| o[1].clone().reshape([n, 1, c]);
        check("gate", &[n * p * c, n * c], &|ops, o| ops.gate(x(o), gates(o)).flatten(0, 2));
        for activation in ACTIVATIONS {
            let y = |o: &[Tensor<1>]| o[1].clone().reshape([n, p, c]);
            check("activation of a sum", &[n * p * c, n * p * c], &|ops, o| {
                ops.add_activation(x(o), y(o), activation).flatten(0, 2)
            });
        }
    }
}

#[test]
fn views_are_read_in_their_order() {
    // A transposed weight and a narrowed input are not contiguous.
    let x = |p: &[Tensor<1>]| p[0].clone().reshape([2, 4, 6]).narrow(1, 1, 2);
    let w = |p: &[Tensor<1>]| p[1].clone().reshape([5, 6]).transpose();
    check("views", &[48, 30], &|ops, p| ops.linear(x(p), w(p).into()).flatten(0, 2));
}

#[test]
fn constants_of_the_plain_device_mix_with_tracked_operands() {
    let (plain, autodiff) = (Device::flex(), Device::flex().autodiff());
    let x: Tensor<3> = flat(numbers(0, 6), &plain).reshape([1, 2, 3]);
    let w = flat(numbers(1, 12), &autodiff).require_grad();
    let y = Fused::new(Precision::F32).linear(x.clone(), w.clone().reshape::<2, _>([3, 4]).into());
    let grads = y.sum().backward();
    let sums: Vec<f32> = values(x.sum_dim(1).flatten(0, 2)).iter().flat_map(|&s| [s; 4]).collect();
    assert_near("gradient", &values(w.grad(&grads).unwrap()), &sums, 1e-6);
}

#[test]
fn bfloat16_stays_near_and_is_used_in_the_backward_pass() {
    let (b, t, i, o) = (2, 33, 64, 48);
    let operation = |ops: &dyn Operations, p: &[Tensor<1>]| {
        let (x, w) = (p[0].clone().reshape([b, t, i]), p[1].clone().reshape::<2, _>([i, o]));
        ops.linear(x, w.into()).flatten(0, 2)
    };
    let ops = Fused::new(Precision::F32);
    let exact = run(&ops, &operation, &[b * t * i, i * o], |_| true);
    let rounded = run(&*ops.with_precision(Precision::Bf16), &operation, &[b * t * i, i * o], |_| true);
    for (exact, rounded) in exact.iter().flatten().zip(rounded.iter().flatten()) {
        assert_near("bfloat16", rounded, exact, 1e-2);
        assert!(rounded != exact, "the product was not in bfloat16");
    }
    let again = run(&ops, &operation, &[b * t * i, i * o], |_| true);
    assert!(again == exact, "the precision of others is not its own");
}

/// What `run` gives in f32, and in a step of training in bfloat16, where what is large is of the arena.
fn exact_and_rounded<R>(run: impl Fn(&dyn Operations) -> R) -> (R, R) {
    let compute = Compute::new(Device::flex());
    let rounded = compute.with_precision(Precision::Bf16);
    (run(compute.ops()), rounded.step(|compute| run(compute.ops())))
}

#[test]
fn what_lies_in_bfloat16_stays_near_and_so_do_its_gradients() {
    let (b, t, heads) = (2, 40, Heads { heads: 4, kv_heads: 2, width: 16 });
    let (f, o, layout) = (96, 48, Layout::full(b, t, Sight::Causal));
    let qkv = heads.qkv_width();
    let attention = |ops: &dyn Operations, p: &[Tensor<1>]| {
        ops.attention(p[0].clone().reshape([b, t, qkv]), heads, &layout, None).flatten(0, 2)
    };
    // What follows a block's norms, and some positions of it.
    let block = |ops: &dyn Operations, p: &[Tensor<1>]| {
        let (x, bias) = (p[0].clone().reshape([b, t, o]), &p[3]);
        let w = |i: usize, inputs: usize, outputs| {
            p[i].clone().mul_scalar((inputs as f64).sqrt().recip()).reshape([inputs, outputs])
        };
        let norm = Norm::Layer { gamma: p[1].clone(), beta: p[2].clone(), eps: 1e-5 };
        let projected = ops.norm_linear_rounded(x, &norm, affine(w(4, o, qkv), Some(bias)));
        let seen = ops.at(ops.attention(projected, heads, &layout, None), &[3, 50, 51]);
        let hidden = ops.act_linear_residual(seen, Activation::Identity, w(5, 64, f).into(), None);
        ops.act_linear_residual(hidden, Activation::Gelu, w(6, f, o).into(), None).flatten(0, 2)
    };
    // Norms of heads between a projection and attention.
    let normed = |ops: &dyn Operations, p: &[Tensor<1>]| {
        let norm = Norm::Rms { gamma: p[1].clone(), eps: 1e-5 };
        let w = p[2].clone().mul_scalar((o as f64).sqrt().recip()).reshape::<2, _>([o, qkv]);
        let projected = ops.norm_linear_rounded(p[0].clone().reshape([b, t, o]), &norm, w.into());
        let by = QkNorm { q: p[3].clone(), k: p[4].clone(), eps: 1e-5 };
        ops.attention(ops.qk_norm(projected, heads, &by), heads, &layout, None).flatten(0, 2)
    };
    let activated = |ops: &dyn Operations, p: &[Tensor<1>]| {
        let (h, w) = (p[0].clone().reshape([b, t, 2 * f]), p[1].clone().reshape::<2, _>([f, o]));
        ops.act_linear_residual(h, Activation::Swiglu, w.into(), None).flatten(0, 2)
    };
    // A block is five operations.
    let cases: [(Operation<'_>, Vec<usize>, f32); 4] = [
        (&normed, vec![b * t * o, o, o * qkv, 16, 16], 2e-2),
        (&attention, vec![b * t * qkv], 1e-2),
        (&activated, vec![b * t * 2 * f, f * o], 1e-2),
        (&block, vec![b * t * o, o, o, qkv, o * qkv, 64 * f, f * o], 2e-2),
    ];
    for (operation, sizes, tolerance) in cases {
        // Operands that bfloat16 has, as those of a model in bfloat16 are; the gradient of the result has
        // more digits.
        let short = |seed, n| match seed {
            PROBE => numbers(seed, n),
            _ => numbers(seed, n).into_iter().map(|x| (x * 64.0).round() / 64.0).collect(),
        };
        let run = |ops: &dyn Operations| {
            run_on(ops, &operation, &sizes, (&|_| true, &|_, n| vec![f32::NAN; n]));
            run_on(ops, &operation, &sizes, (&|_| true, &short))
        };
        let (exact, rounded) = exact_and_rounded(run);
        for (exact, rounded) in exact.iter().flatten().zip(rounded.iter().flatten()) {
            assert_near("bfloat16", rounded, exact, tolerance);
            assert!(rounded != exact, "nothing was rounded");
        }
    }
    // Gradients stay so near of operands with more digits too, which are rounded first.
    let cases: [(Operation<'_>, Vec<usize>); 2] =
        [(&attention, vec![b * t * qkv]), (&activated, vec![b * t * 2 * f, f * o])];
    for (operation, sizes) in cases {
        let (exact, rounded) = exact_and_rounded(|ops| run(ops, &operation, &sizes, |_| true));
        for (exact, rounded) in exact.iter().flatten().zip(rounded.iter().flatten()).skip(1) {
            assert_near("bfloat16", rounded, exact, 1e-2);
            assert!(rounded != exact, "nothing was rounded");
        }
    }
}

/// What bfloat16 does on devices that have it, by the 16 bits that this one has.
#[cfg(feature = "vulkan")]
#[test]
fn products_of_16_bits_stay_near_on_vulkan() {
    let Some(compute) = case::vulkan() else { return };
    let (b, t, heads) = (2, 33, Heads { heads: 4, kv_heads: 2, width: 10 });
    let (d, f, layout) = (40, 27, Layout::full(b, t, Sight::Causal));
    let rope = Rope::new(100.0, heads.width, t);
    let scaled = |p: &[Tensor<1>], i: usize, dims: [usize; 2]| {
        p[i].clone().mul_scalar((dims[0] as f64).sqrt().recip()).reshape::<2, _>(dims)
    };
    let x = |p: &[Tensor<1>]| p[0].clone().reshape([b, t, d]);
    let linear = |ops: &dyn Operations, p: &[Tensor<1>]| {
        ops.linear(x(p), affine(scaled(p, 1, [d, f]), Some(&p[2]))).flatten(0, 2)
    };
    let table = |ops: &dyn Operations, p: &[Tensor<1>]| {
        ops.linear(x(p), Weight::Table(scaled(p, 1, [f, d])).into()).flatten(0, 2)
    };
    let attention = |ops: &dyn Operations, p: &[Tensor<1>]| {
        let norm = Norm::Rms { gamma: p[1].clone(), eps: 1e-5 };
        let qkv = ops.norm_linear_rounded(x(p), &norm, scaled(p, 2, [d, heads.qkv_width()]).into());
        ops.attention(qkv, heads, &layout, Some(&rope)).flatten(0, 2)
    };
    let mlp = |ops: &dyn Operations, p: &[Tensor<1>]| {
        let norm = Norm::Layer { gamma: p[1].clone(), beta: p[2].clone(), eps: 1e-5 };
        let (up, down) =
            (affine(scaled(p, 3, [d, f]), Some(&p[4])), affine(scaled(p, 5, [f, d]), Some(&p[6])));
        ops.mlp(x(p), MlpMaps { norm, up, activation: Activation::Gelu, down }).flatten(0, 2)
    };
    let gated = |ops: &dyn Operations, p: &[Tensor<1>]| {
        let norm = Norm::Rms { gamma: p[1].clone(), eps: 1e-5 };
        let (up, down) = (scaled(p, 2, [d, 2 * f]).into(), scaled(p, 3, [f, d]).into());
        ops.mlp(x(p), MlpMaps { norm, up, activation: Activation::Swiglu, down }).flatten(0, 2)
    };
    let targets: Vec<u32> = (0..b * t).map(|i| (i * 7 % f) as u32).collect();
    let loss = |ops: &dyn Operations, p: &[Tensor<1>]| {
        let head = Weight::Table(scaled(p, 1, [f, d]));
        ops.linear_cross_entropy(x(p), head, &targets, &vec![0.5; b * t])
    };
    let n = b * t * d;
    let cases: [(&str, Operation<'_>, Vec<usize>); 6] = [
        ("linear", &linear, vec![n, d * f, f]),
        ("table", &table, vec![n, f * d]),
        ("attention", &attention, vec![n, d, d * heads.qkv_width()]),
        ("MLP", &mlp, vec![n, d, d, d * f, f, f * d, d]),
        ("SwiGLU", &gated, vec![n, d, d * 2 * f, f * d]),
        ("loss", &loss, vec![n, f * d]),
    ];
    for (name, operation, sizes) in cases {
        let exact = run(&Composed::new(Precision::F32), operation, &sizes, |_| true);
        let ops = Gpu::in_f16();
        let rounded = run_at(compute.device(), &ops, operation, &sizes, (&|_| true, &numbers));
        for (i, (exact, rounded)) in exact.iter().flatten().zip(rounded.iter().flatten()).enumerate() {
            // That of bfloat16 on the CPU.
            assert_near(&format!("{name}: {i}"), rounded, exact, 1e-2);
        }
        assert!(rounded != exact, "{name}: nothing was rounded");
    }
}

#[test]
fn what_is_saved_in_bfloat16_changes_no_result_and_gradients_stay_near() {
    let (b, t, o) = (2, 40, 48);
    let normed = |ops: &dyn Operations, p: &[Tensor<1>]| {
        let norm = Norm::Layer { gamma: p[1].clone(), beta: p[2].clone(), eps: 1e-5 };
        ops.norm_activation(p[0].clone().reshape([b, t, o]), &norm, Activation::Silu).flatten(0, 2)
    };
    let added = |ops: &dyn Operations, p: &[Tensor<1>]| {
        let [x, y] = [0, 1].map(|i| p[i].clone().reshape([b, t, o]));
        ops.add_activation(x, y, Activation::Gelu).flatten(0, 2)
    };
    let gated = |ops: &dyn Operations, p: &[Tensor<1>]| {
        ops.gate(p[0].clone().reshape([b, t, o]), p[1].clone().reshape([b, 1, o])).flatten(0, 2)
    };
    let depthwise = |ops: &dyn Operations, p: &[Tensor<1>]| {
        ops.depthwise3x3(p[0].clone().reshape([b, 5, 8, o]), &p[1].clone().reshape([9, o])).flatten(0, 3)
    };
    let cases: [(Operation<'_>, Vec<usize>); 4] = [
        (&normed, vec![b * t * o, o, o]),
        (&added, vec![b * t * o, b * t * o]),
        (&gated, vec![b * t * o, b * o]),
        (&depthwise, vec![b * t * o, 9 * o]),
    ];
    for (operation, sizes) in cases {
        let (exact, rounded) = exact_and_rounded(|ops| run(ops, &operation, &sizes, |_| true));
        assert!(rounded[0] == exact[0], "another result");
        assert!(rounded != exact, "nothing was rounded");
        for (exact, rounded) in exact.iter().flatten().zip(rounded.iter().flatten()) {
            assert_near("bfloat16", rounded, exact, 1e-2);
        }
    }
}

#[test]
fn threads_change_no_bit_of_a_step() {
    let bits = |threads| {
        with_isa(Isa::detect(), threads, || {
            let case = case::read("c-abstractor");
            let compute = case::cpu();
            let model = case.model(&compute.training_device());
            let loss = model.loss(&compute, &case.input(), &case.targets, case.weights()).unwrap();
            let gradients = weights::gradients(&model, &loss.backward());
            gradients.into_iter().flat_map(|(_, _, g)| g).map(f32::to_bits).collect::<Vec<u32>>()
        })
    };
    let one = bits(1);
    assert!(one.iter().any(|&bits| bits != 0));
    for threads in [2, 7] {
        assert!(one == bits(threads), "{threads} threads give other gradients than 1");
    }
}

//! Packed queries, keys and values to heads and back, with rotated positions (RoPE, Su et al. 2021), and the
//! softmax of their scores.

use cubecl::client::Client;
use cubecl::prelude::*;

use crate::Number;
use crate::rows::{cubes_of_rows, cubes_of_values, most_and_exp_sum, sum_of_units, units_of_row};

/// The shape of packed rows `[b, t, (h + 2 g) c]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PackedHeads {
    /// Rows `b`.
    pub rows: usize,
    /// Positions `t`.
    pub length: usize,
    /// Heads of queries `h`.
    pub heads: usize,
    /// Heads of keys, and of values, `g`.
    pub kv_heads: usize,
    /// Width of a head `c`.
    pub width: usize,
    /// Whether queries and keys are turned: component `i` of a head with `i + c / 2`.
    pub turned: bool,
}

impl PackedHeads {
    fn values(self) -> usize {
        self.rows * self.length * (self.heads + 2 * self.kv_heads) * self.width
    }
}

/// Writes queries, times `1 / sqrt(c)`, keys and values to `[b, h, t, c]` each, in `number`, those of a group
/// of heads to each of its heads. `cos` and `sin` are `[b, t, c / 2]`, and not read where nothing is turned.
pub fn split(
    client: &Client,
    of: PackedHeads,
    [qkv, cos, sin]: [BufferArg; 3],
    [q, k, v]: [BufferArg; 3],
    number: Number,
) {
    let count = of.rows * of.heads * of.length * of.width;
    let (cubes, units) = cubes_of_values(count);
    split_heads::launch(
        client,
        cubes,
        units,
        qkv,
        cos,
        sin,
        q,
        k,
        v,
        of.length as u32,
        (of.width as f32).sqrt().recip(),
        of.heads as u32,
        of.kv_heads as u32,
        of.width as u32,
        of.turned,
        number.elem(),
    );
}

/// Writes the gradient of `qkv`, from those of what [`split`] wrote.
pub fn split_backward(
    client: &Client,
    of: PackedHeads,
    [dq, dk, dv, cos, sin]: [BufferArg; 5],
    dqkv: BufferArg,
) {
    let (cubes, units) = cubes_of_values(of.values());
    merge_heads::launch(
        client,
        cubes,
        units,
        dq,
        dk,
        dv,
        cos,
        sin,
        dqkv,
        of.length as u32,
        (of.width as f32).sqrt().recip(),
        of.heads as u32,
        of.kv_heads as u32,
        of.width as u32,
        of.turned,
    );
}

/// Scores `[b, h, t, t]`.
#[derive(Clone, Copy, Debug)]
pub struct Scores {
    /// Rows `b`.
    pub rows: usize,
    /// Heads `h`.
    pub heads: usize,
    /// Positions `t`.
    pub length: usize,
}

/// Writes the softmax over those keys that a position sees to `p`, in `number`, and zeros for the others.
/// `seen` `[b, t, 2]` of u32 has the first key that it sees and the one behind the last.
pub fn softmax(client: &Client, of: Scores, [scores, seen]: [BufferArg; 2], p: BufferArg, number: Number) {
    let (units, rows) = (units_of_row(of.length), of.rows * of.heads * of.length);
    softmax_rows::launch(
        client,
        cubes_of_rows(rows),
        CubeDim::new_1d(units),
        scores,
        seen,
        p,
        rows as u32,
        of.heads as u32,
        of.length as u32,
        units,
        number.elem(),
    );
}

/// Writes the gradient of the scores, from `p` and that of `p`; it and `p` are in `number`.
pub fn softmax_backward(
    client: &Client,
    of: Scores,
    [p, dp]: [BufferArg; 2],
    dscores: BufferArg,
    number: Number,
) {
    let (units, rows) = (units_of_row(of.length), of.rows * of.heads * of.length);
    softmax_backward_rows::launch(
        client,
        cubes_of_rows(rows),
        CubeDim::new_1d(units),
        p,
        dp,
        dscores,
        rows as u32,
        of.length as u32,
        units,
        number.elem(),
    );
}

#[cube(launch)]
fn split_heads<F: Float>(
    qkv: &[f32],
    cos: &[f32],
    sin: &[f32],
    q: &mut [F],
    k: &mut [F],
    v: &mut [F],
    length: u32,
    factor: f32,
    #[comptime] heads: u32,
    #[comptime] kv_heads: u32,
    #[comptime] width: u32,
    #[comptime] turned: bool,
    #[define(F)] _number: ElemType,
) {
    let stride = CUBE_DIM as usize * CUBE_COUNT;
    let half = comptime!(width / 2);
    let mut at = ABSOLUTE_POS;
    while at < q.len() {
        let place = at as u32;
        let i = place % width;
        let position = place / width % length;
        let head = place / width / length % heads;
        let row = place / width / length / heads;
        let group = head / comptime!(heads / kv_heads);
        let of_position = row * length + position;
        let first = of_position * comptime!((heads + 2 * kv_heads) * width);
        let query = first + head * width;
        let key = first + (group + heads) * width;
        let mut q_here = qkv[(query + i) as usize];
        let mut k_here = qkv[(key + i) as usize];
        if comptime!(turned) {
            let mut other = i + half;
            let mut angle = i;
            let mut sign = f32::new(-1.0);
            if i >= half {
                other = i - half;
                angle = i - half;
                sign = f32::new(1.0);
            }
            let turn = (of_position * half + angle) as usize;
            q_here = q_here * cos[turn] + sign * qkv[(query + other) as usize] * sin[turn];
            k_here = k_here * cos[turn] + sign * qkv[(key + other) as usize] * sin[turn];
        }
        q[at] = F::cast_from(q_here * factor);
        k[at] = F::cast_from(k_here);
        v[at] = F::cast_from(qkv[(first + (group + comptime!(heads + kv_heads)) * width + i) as usize]);
        at += stride;
    }
}

/// The value at component `i` of a head of `x` `[b, h, t, c]`.
#[cube]
fn at_head(
    row: u32,
    head: u32,
    position: u32,
    i: u32,
    length: u32,
    #[comptime] heads: u32,
    #[comptime] width: u32,
) -> usize {
    (((row * heads + head) * length + position) * width + i) as usize
}

#[cube(launch)]
fn merge_heads(
    dq: &[f32],
    dk: &[f32],
    dv: &[f32],
    cos: &[f32],
    sin: &[f32],
    dqkv: &mut [f32],
    length: u32,
    factor: f32,
    #[comptime] heads: u32,
    #[comptime] kv_heads: u32,
    #[comptime] width: u32,
    #[comptime] turned: bool,
) {
    let stride = CUBE_DIM as usize * CUBE_COUNT;
    let half = comptime!(width / 2);
    let packed = comptime!((heads + 2 * kv_heads) * width);
    let in_group = comptime!(heads / kv_heads);
    let mut at = ABSOLUTE_POS;
    while at < dqkv.len() {
        let place = at as u32;
        let of_position = place / packed;
        let column = place % packed;
        let i = column % width;
        let slot = column / width;
        let row = of_position / length;
        let position = of_position % length;
        // The transpose of a rotation turns back.
        let mut other = i + half;
        let mut angle = i;
        let mut sign = f32::new(1.0);
        if i >= half {
            other = i - half;
            angle = i - half;
            sign = f32::new(-1.0);
        }
        let turn = (of_position * half + angle) as usize;
        let mut sum = f32::new(0.0);
        if slot < heads {
            sum = dq[at_head(row, slot, position, i, length, heads, width)];
            if comptime!(turned) {
                let across = dq[at_head(row, slot, position, other, length, heads, width)];
                sum = sum * cos[turn] + sign * across * sin[turn];
            }
            sum *= factor;
        } else if slot < comptime!(heads + kv_heads) {
            let first = (slot - heads) * in_group;
            let mut across = f32::new(0.0);
            let mut head = first;
            while head < first + in_group {
                sum += dk[at_head(row, head, position, i, length, heads, width)];
                if comptime!(turned) {
                    across += dk[at_head(row, head, position, other, length, heads, width)];
                }
                head += 1;
            }
            if comptime!(turned) {
                sum = sum * cos[turn] + sign * across * sin[turn];
            }
        } else {
            let first = (slot - comptime!(heads + kv_heads)) * in_group;
            let mut head = first;
            while head < first + in_group {
                sum += dv[at_head(row, head, position, i, length, heads, width)];
                head += 1;
            }
        }
        dqkv[at] = sum;
        at += stride;
    }
}

#[cube(launch)]
fn softmax_rows<F: Float>(
    scores: &[f32],
    seen: &[u32],
    p: &mut [F],
    rows: u32,
    heads: u32,
    length: u32,
    #[comptime] units: u32,
    #[define(F)] _number: ElemType,
) {
    let mut scratch = Shared::<[f32]>::new_slice(units as usize);
    // A cube too many does the last row once more.
    let row = min(CUBE_POS as u32, rows - 1);
    let first = (row * length) as usize;
    let of_position = row / length / heads * length + row % length;
    let from = seen[(of_position * 2) as usize];
    let to = seen[(of_position * 2 + 1) as usize];
    let (most, sum) = most_and_exp_sum(scores, first + from as usize, first + to as usize, &mut scratch);
    let mut over = f32::new(0.0);
    if sum > 0.0f32 {
        over = 1.0f32 / sum;
    }
    let mut i = UNIT_POS;
    while i < length {
        let mut share = f32::new(0.0);
        if i >= from && i < to {
            share = (scores[first + i as usize] - most).exp() * over;
        }
        p[first + i as usize] = F::cast_from(share);
        i += units;
    }
}

#[cube(launch)]
fn softmax_backward_rows<F: Float>(
    p: &[F],
    dp: &[f32],
    dscores: &mut [F],
    rows: u32,
    length: u32,
    #[comptime] units: u32,
    #[define(F)] _number: ElemType,
) {
    let mut scratch = Shared::<[f32]>::new_slice(units as usize);
    let row = min(CUBE_POS as u32, rows - 1);
    let first = (row * length) as usize;
    let mut sum = f32::new(0.0);
    let mut i = UNIT_POS;
    while i < length {
        sum += f32::cast_from(p[first + i as usize]) * dp[first + i as usize];
        i += units;
    }
    let sum = sum_of_units(sum, &mut scratch);
    let mut i = UNIT_POS;
    while i < length {
        let at = first + i as usize;
        dscores[at] = F::cast_from(f32::cast_from(p[at]) * (dp[at] - sum));
        i += units;
    }
}

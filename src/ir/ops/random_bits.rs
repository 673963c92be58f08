//! `random_bits`: 32 random bits an element, a function of (seed, step, round, site, element) alone.
//!
//! Philox4x32-10. The elements in row-major order are cut into blocks of 64: element `e` is word `(e / 16) % 4` of the
//! output for counter `((e / 64) * 16 + e % 16, step, round, site)` and the seed as key. So 16 counters
//! side by side give four runs of 16 words, and a vector loop needs no shuffle.

use super::*;
use crate::ir::dim::Dim;
use crate::ir::loops::build::BlockBuilder;
use crate::ir::loops::{Affine, LoopVar};
use crate::ir::scalar::ScalarFunction;
use crate::ir::types::DType;

/// `u32` words of `shape`; operands are the seed `u32[2]`, low word first, the step `i32[]`, the number of the round of the `scan` around it `i32[]`, 0 outside,
/// and, of a part of a larger draw, the number of its first block there `i32[]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RandomBits {
    pub shape: Vec<Dim>,
    /// The draw's own number: the FNV-1a hash of the path of the call.
    pub site: u32,
}

const MULTIPLIERS: [u32; 2] = [0xD251_1F53, 0xCD9E_8D57];
const KEY_STEPS: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
const ROUNDS: usize = 10;
/// Counters side by side.
const LANES: usize = 16;
/// Words of a counter.
const WORDS: usize = 4;

/// The four words of one counter.
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..ROUNDS {
        let products = [0, 1].map(|i| u64::from(MULTIPLIERS[i]) * u64::from(c[2 * i]));
        let high = products.map(|p| (p >> 32) as u32);
        c = [high[1] ^ c[1] ^ k[0], products[1] as u32, high[0] ^ c[3] ^ k[1], products[0] as u32];
        k = [k[0].wrapping_add(KEY_STEPS[0]), k[1].wrapping_add(KEY_STEPS[1])];
    }
    c
}

/// Word `element` of a draw.
pub fn word(seed: [u32; 2], step: i32, round: i32, site: u32, element: u64) -> u32 {
    let (block, within) = (element / 64, element % 64);
    let counter = (block * 16 + within % 16) as u32;
    philox([counter, step as u32, round as u32, site], seed)[(within / 16) as usize]
}

/// The 32-bit FNV-1a hash.
pub fn fnv1a(text: &str) -> u32 {
    text.bytes().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

impl OpDef for RandomBits {
    const DOC: OpDoc = OpDoc {
        name: "random_bits",
        summary: "32 random bits an element",
        shapes: "seed[2], step[], round[], first[] or none -> shape",
        equation: "y[e] = philox(key = seed, counter = ((first + e / 64) * 16 + e % 16, step, round, site))[e / 16 % 4], first being 0 where there is none",
        derivative: "none: it has no float operand",
        dtypes: "seed: u32, step, round, first: i32; result: u32",
        error: "exact",
    };

    fn attributes(&self) -> Attributes {
        let site = Attribute::Dim(Dim::from(i64::from(self.site)));
        Attributes::new([("shape", Attribute::Dims(self.shape.clone())), ("site", site)])
    }

    fn from_attributes(attributes: &Attributes) -> Result<Self, String> {
        Ok(RandomBits { shape: attributes.dims("shape")?, site: attributes.number("site")? })
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, TypeError> {
        let (whole, first) = inputs.split_at(inputs.len().min(3));
        let [seed, step, round] = expect_operands(whole)?;
        let number = TensorType::scalar(DType::I32);
        if first.len() > 1 || first.iter().any(|first| **first != number) {
            return Err(TypeError::new("a part of a draw takes the number of its first block, i32[]"));
        }
        if *seed != TensorType::new(DType::U32, [2usize]) || *step != number || *round != number {
            return Err(TypeError::new(format!(
                "a draw takes a seed u32[2], a step i32[] and a round i32[], found {seed}, {step} and {round}"
            )));
        }
        Ok(vec![TensorType { dtype: DType::U32, shape: self.shape.clone() }])
    }

    fn eval(&self, inputs: &[&Tensor], outputs: &[TensorType]) -> Vec<Tensor> {
        let seed = [inputs[0].data[0] as u32, inputs[0].data[1] as u32];
        let [step, round] = [1, 2].map(|i| inputs[i].data[0] as i32);
        let first = inputs.get(3).map_or(0, |first| u64::from(first.data[0] as i32 as u32) * (LANES * WORDS) as u64);
        let count = outputs[0].elements().expect("sizes are concrete when a graph is evaluated") as u64;
        let data = (first..first + count).map(|e| f64::from(word(seed, step, round, self.site, e))).collect();
        vec![Tensor::new(outputs[0].clone(), data)]
    }

    fn vjp(&self, cx: &mut VjpContext<'_>) -> Result<Vec<Option<ValueId>>, NotDifferentiable> {
        Ok(vec![None; cx.inputs.len()])
    }

    fn access(&self, _: &[TensorType], _: &[TensorType]) -> Access {
        Access::Opaque
    }

    fn lower(&self, cx: &mut LowerContext<'_, '_>) -> Vec<Value> {
        let (inputs, outputs) = cx.buffers();
        let count = cx.outputs[0].elements().expect("sizes are concrete when a graph is lowered");
        let (first, output) = (inputs.get(3).copied(), outputs[0]);
        let draw = Draw { seed: inputs[0], step: inputs[1], round: inputs[2], first, output, site: self.site };
        let (blocks, rest) = (count / (LANES * WORDS), count % (LANES * WORDS));
        if blocks > 0 {
            cx.block.for_each(blocks as u64, |b, block| draw.write(b, LANES, Some(block), 0, 0..WORDS));
        }
        // The last block is cut short: first its whole runs of 16 words, then what is left of one.
        let (runs, tail) = (rest / LANES, rest % LANES);
        if runs > 0 {
            draw.write(cx.block, LANES, None, blocks, 0..runs);
        }
        if tail > 0 {
            draw.write(cx.block, tail, None, blocks, runs..runs + 1);
        }
        Vec::new()
    }

    fn primitives() -> Vec<Primitive> {
        vec![Primitive {
            name: "random_bits",
            doc: "32 random bits an element, u32: a function of (seed, step, call site, element)",
            parameters: const { &[Parameter::required("shape", "a list of dims")] },
            rest: false,
            draws: true,
            build: |b, a| {
                let shape = a.shape(0)?;
                let source = a.random.ok_or_else(|| TypeError::new("a random draw where there is no seed"))?;
                let op = RandomBits { shape, site: fnv1a(&a.site) };
                Ok(vec![b.add_one(op, &[source.seed, source.step, source.round])?])
            },
        }]
    }

    fn samples() -> Vec<Sample<Self>> {
        let seed =
            || Tensor::new(TensorType::new(DType::U32, [2usize]), vec![f64::from(0x1234_5678_u32), 4_000_000_000.0]);
        let step = || Tensor::new(TensorType::scalar(DType::I32), vec![7.0]);
        let round = |n: f64| Tensor::new(TensorType::scalar(DType::I32), vec![n]);
        let sample = |shape: &[usize]| {
            let inputs = vec![seed(), step(), round(shape.len() as f64)];
            let shape = shape.iter().map(|n| Dim::from(*n)).collect();
            Sample { op: RandomBits { shape, site: fnv1a("dropout_1") }, inputs }
        };
        let mut part = sample(&[2, 77]);
        part.inputs.push(Tensor::new(TensorType::scalar(DType::I32), vec![3.0]));
        let whole: [&[usize]; 7] = [&[], &[15], &[64], &[3, 67], &[48], &[2, 77], &[0]];
        whole.into_iter().map(sample).chain([part]).collect()
    }
}

/// The buffers of a draw being lowered.
struct Draw {
    seed: BufferId,
    step: BufferId,
    round: BufferId,
    first: Option<BufferId>,
    output: BufferId,
    site: u32,
}

impl Draw {
    /// Writes one vector loop of `lanes` counters that stores the given words of each, in block `first` or, under a loop, in block `first + var`.
    fn write(
        &self,
        b: &mut BlockBuilder<'_>,
        lanes: usize,
        var: Option<LoopVar>,
        first: usize,
        words: std::ops::Range<usize>,
    ) {
        b.lanes(lanes as u64, |b, lane| {
            let scaled = |per_block: usize| {
                let origin = Affine::scaled(lane, 1).offset((first * per_block) as i64);
                var.map_or(origin.clone(), |v| origin.plus(v, per_block as i64))
            };
            let index = b.index(scaled(LANES));
            let step = b.load(self.step, Affine::constant(0));
            let round = b.load(self.round, Affine::constant(0));
            let site = b.constant(DType::U32, f64::from(self.site));
            let mut number = b.convert(index, DType::U32);
            if let Some(first) = self.first {
                let first = b.load(first, Affine::constant(0));
                let first = b.convert(first, DType::U32);
                let lanes = b.constant(DType::U32, LANES as f64);
                let counters = b.map(ScalarFunction::Mul, &[first, lanes]);
                number = b.map(ScalarFunction::Add, &[number, counters]);
            }
            let counter = [number, b.convert(step, DType::U32), b.convert(round, DType::U32), site];
            let key = [0, 1].map(|i| b.load(self.seed, Affine::constant(i)));
            let values = lower_philox(b, counter, key);
            for word in words {
                b.store(self.output, scaled(LANES * WORDS).offset((word * LANES) as i64), values[word]);
            }
        });
    }
}

/// As [`philox`], in loop code.
fn lower_philox(b: &mut BlockBuilder<'_>, counter: [Value; 4], key: [Value; 2]) -> [Value; 4] {
    let (mut c, mut k) = (counter, key);
    for round in 0..ROUNDS {
        if round > 0 {
            k = [0, 1].map(|i| {
                let step = b.constant(DType::U32, f64::from(KEY_STEPS[i]));
                b.map(ScalarFunction::Add, &[k[i], step])
            });
        }
        let [(high0, low0), (high1, low1)] = [0, 1].map(|i| {
            let factor = b.constant(DType::U32, f64::from(MULTIPLIERS[i]));
            let operands = [c[2 * i], factor];
            (b.map(ScalarFunction::MulHigh, &operands), b.map(ScalarFunction::Mul, &operands))
        });
        let mixed0 = b.map(ScalarFunction::Xor, &[high1, c[1]]);
        let mixed1 = b.map(ScalarFunction::Xor, &[high0, c[3]]);
        c = [b.map(ScalarFunction::Xor, &[mixed0, k[0]]), low1, b.map(ScalarFunction::Xor, &[mixed1, k[1]]), low0];
    }
    c
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known answers that come with the algorithm's reference implementation.
    #[test]
    fn known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox([u32::MAX; 4], [u32::MAX; 2]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        let counter = [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344];
        let answer = [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1];
        assert_eq!(philox(counter, [0xa409_3822, 0x299f_31d0]), answer);
    }

    /// Each part of a draw's name gives other numbers.
    #[test]
    fn words_depend_on_every_part() {
        let of =
            |seed: u32, step: i32, round: i32, site: u32, element: u64| word([seed, 0], step, round, site, element);
        let all = [
            of(1, 1, 1, 1, 1),
            of(2, 1, 1, 1, 1),
            of(1, 2, 1, 1, 1),
            of(1, 1, 2, 1, 1),
            of(1, 1, 1, 2, 1),
            of(1, 1, 1, 1, 2),
        ];
        let different: std::collections::BTreeSet<u32> = all.into_iter().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(of(0, 0, 0, 0, 0), 0x6627_e8d5);
    }

    #[test]
    fn hash_known_answers() {
        assert_eq!(fnv1a(""), 0x811c_9dc5);
        assert_eq!(fnv1a("a"), 0xe40c_292c);
        assert_eq!(fnv1a("foobar"), 0xbf9c_f968);
    }
}

//! Running a kernel both ways on the same random memory.

use std::cell::RefCell;

use nnc::codegen::backends;
use nnc::ir::loops::*;
use nnc::ir::types::DType;
use nnc::passes::expand_math;

/// Integer dtypes.
pub const INTEGERS: [DType; 7] = [DType::I8, DType::I16, DType::I32, DType::I64, DType::U8, DType::U16, DType::U32];

/// All dtypes that memory has.
pub const ALL: [DType; 12] = [
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::F32,
    DType::F64,
    DType::Bool,
    DType::F16,
    DType::BF16,
];

/// A fixed sequence of numbers.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Bytes of elements: tame numbers mostly, now and then a special one or any bits.
    pub fn elements(&mut self, dtype: DType, count: u64) -> Vec<u8> {
        (0..count).flat_map(|_| self.element(dtype)).collect()
    }

    fn element(&mut self, dtype: DType) -> Vec<u8> {
        let (kind, bits) = (self.next() % 16, self.next());
        let float = match kind {
            0 => [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1.0][bits as usize % 6],
            1 => f64::from(f32::from_bits(bits as u32)),
            2 => (bits % 17) as f64 - 8.0,
            _ => (bits as f64 / u64::MAX as f64 - 0.5) * 12.0,
        };
        let integer = match kind {
            0 => [0, 1, u64::MAX, 1 << 7, 1 << 15, 1 << 31, 1 << 63][bits as usize % 7],
            1..=4 => bits,
            _ => (bits % 23).wrapping_sub(9),
        };
        match dtype {
            DType::F32 => (float as f32).to_le_bytes().to_vec(),
            DType::F64 => float.to_le_bytes().to_vec(),
            DType::F16 => half::f16::from_f64(float).to_le_bytes().to_vec(),
            DType::BF16 => half::bf16::from_f64(float).to_le_bytes().to_vec(),
            DType::Bool => vec![(bits & 1) as u8],
            other => integer.to_le_bytes()[..other.bytes()].to_vec(),
        }
    }
}

/// A program of one kernel whose buffers are all arguments.
pub fn program_of(kernel: Kernel) -> Program {
    let count = kernel.buffers.len() as u32;
    let buffers = kernel.buffers.iter().enumerate().map(|(i, b)| Buffer {
        name: b.name.clone(),
        dtype: b.dtype,
        elements: b.elements,
        place: Place::Argument { index: i as u32 },
    });
    Program {
        name: "test".to_string(),
        buffers: buffers.collect(),
        pointers: count,
        steps: vec![Step::Call(Call::on_whole(0, 0..count))],
        kernels: vec![kernel],
        arena_bytes: 0,
    }
}

/// Calls a compiled program. `arguments` are as long as the program declares.
pub fn call(
    loaded: &dyn nnc::codegen::Loaded,
    program: &Program,
    arguments: &mut [Vec<u8>],
    pool: Option<&nn_rt::Pool>,
) {
    let entry = loaded.entry(&program.name).expect("the program is there");
    let pointers: Vec<*mut u8> = arguments.iter_mut().map(|b| b.as_mut_ptr()).collect();
    let mut workspace = vec![0u8; program.arena_bytes as usize + 64];
    let pool = pool.map_or(std::ptr::null(), nn_rt::Pool::as_ptr);
    // SAFETY: arguments and workspace have the sizes that the program declares, and outlive the call.
    unsafe { entry(pointers.as_ptr(), workspace.as_mut_ptr(), pool) };
}

/// Whether two elements are the same bits, or both NaN.
fn same(dtype: DType, a: &[u8], b: &[u8]) -> bool {
    let half = |x: &[u8]| u16::from_le_bytes(x.try_into().expect("2 bytes"));
    let nan = |x: &[u8]| match dtype {
        DType::F16 => half::f16::from_bits(half(x)).is_nan(),
        DType::BF16 => half::bf16::from_bits(half(x)).is_nan(),
        DType::F32 => f32::from_le_bytes(x.try_into().expect("4 bytes")).is_nan(),
        DType::F64 => f64::from_le_bytes(x.try_into().expect("8 bytes")).is_nan(),
        _ => false,
    };
    a == b || (nan(a) && nan(b))
}

/// Fails at the first element in which two states of a program's arguments differ.
pub fn assert_same(program: &Program, got: &[Vec<u8>], want: &[Vec<u8>]) {
    for buffer in &program.buffers {
        let Place::Argument { index } = buffer.place else { continue };
        let size = buffer.dtype.bytes();
        let pairs = got[index as usize].chunks(size).zip(want[index as usize].chunks(size));
        for (i, (a, b)) in pairs.enumerate() {
            assert!(
                same(buffer.dtype, a, b),
                "{}: {}[{i}] is {a:02x?} instead of {b:02x?}\n{}",
                program.name,
                buffer.name,
                text::program(program)
            );
        }
    }
}

/// Random arguments for a program.
pub fn arguments(program: &Program, random: &mut Random) -> Vec<Vec<u8>> {
    let mut out = vec![Vec::new(); program.pointers as usize];
    for buffer in &program.buffers {
        if let Place::Argument { index } = buffer.place {
            out[index as usize] = random.elements(buffer.dtype, buffer.elements);
        }
    }
    out
}

/// A program, arguments, and what the interpreter makes of them.
pub struct Example {
    /// One kernel whose functions are all of the machine.
    pub program: Program,
    pub before: Vec<Vec<u8>>,
    pub after: Vec<Vec<u8>>,
}

thread_local! {
    /// Where `check` puts examples instead of running them, while somebody gathers them.
    static GATHERED: RefCell<Option<Vec<Example>>> = const { RefCell::new(None) };
}

/// The examples of the checks that some code makes.
pub fn gather(checks: impl FnOnce()) -> Vec<Example> {
    GATHERED.set(Some(Vec::new()));
    checks();
    GATHERED.take().expect("nobody else gathers on this thread")
}

/// Checks a kernel: its text parses back, and compiled it does what the interpreter does.
pub fn check(kernel: Kernel) {
    check_with(kernel, |_, _| {});
}

/// As `check`, with the random arguments changed before the runs.
pub fn check_with(kernel: Kernel, change: impl Fn(&str, &mut Vec<u8>)) {
    let printed = text::kernel(&kernel);
    let parsed = text::parse_kernel(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}"));
    assert_eq!(text::kernel(&parsed), printed);
    let program = program_of(parsed);
    let mut expanded = program.clone();
    expand_math::run(&mut expanded).unwrap_or_else(|e| panic!("{e}\n{printed}"));
    let jit =
        || backends().map(|b| b.jit(std::slice::from_ref(&expanded)).unwrap_or_else(|e| panic!("{e}\n{printed}")));
    let loaded = if GATHERED.with_borrow(Option::is_some) { None } else { Some(jit()) };
    let mut random = Random(program.kernels[0].values.len() as u64);
    for _ in 0..2 {
        let mut got = arguments(&program, &mut random);
        for (buffer, bytes) in program.buffers.iter().zip(&mut got) {
            change(&buffer.name, bytes);
        }
        let mut want = got.clone();
        interpret::program(&program, &mut want).unwrap_or_else(|e| panic!("{e}\n{printed}"));
        for loaded in loaded.iter().flatten() {
            let mut got = got.clone();
            call(&**loaded, &program, &mut got, None);
            assert_same(&program, &got, &want);
        }
        GATHERED.with_borrow_mut(|gathered| {
            if let Some(examples) = gathered {
                examples.push(Example { program: expanded.clone(), before: got, after: want });
            }
        });
    }
}

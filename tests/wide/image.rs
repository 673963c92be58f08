//! The memory of a computer that calls kernels: page tables, the code that starts it, and the list of what it is to do.
//!
//! The processor starts in a ROM of 64 KiB below 4 GiB, goes from its 16-bit mode straight to the 64-bit one, with the registers of AVX-512 switched on, and
//! works through commands of four words: `address, a, b, c` calls the code at an address with three arguments; `0, address, length, 0` writes
//! memory to the port of the debugger; `1` switches off.

use std::collections::HashMap;
use std::path::Path;

/// What the machine writes first.
pub const MARKER: &[u8] = b"\x01kernels of nnc:\n";

/// Where the image lies in memory.
const START: u64 = 1 << 20;

/// Places in the image.
const DIRECTORY: u64 = START + 0x1000;
const SEGMENTS: u64 = START + 0x2000;
const ENTRY: u64 = START + 0x3000;
const STACK_END: u64 = START + 0x1_4000;

/// Where a word that the code knows says where the commands are.
const COMMANDS: u64 = START + 0x2800;

/// Bytes of memory of the machine, all of which its page table reaches.
const MEGABYTES: usize = 512;

/// A port whose bytes Bochs copies to its output, and one that switches off.
const OUTPUT_PORT: u32 = 0xe9;
const POWER_PORT: u32 = 0x8900;

const ROM_BYTES: usize = 1 << 16;

/// Memory being filled.
pub struct Image {
    bytes: Vec<u8>,
    /// Where contents are that are kept once.
    known: HashMap<Vec<u8>, u64>,
    commands: Vec<[u64; 4]>,
}

impl Image {
    /// A machine that starts, and says so.
    pub fn new() -> Image {
        let mut image =
            Image { bytes: vec![0; (STACK_END - START) as usize], known: HashMap::new(), commands: Vec::new() };
        // Pages of 1 GiB, which may be written: the first one for memory, the last one for the ROM.
        image.set(START, &(DIRECTORY | 3).to_le_bytes());
        image.set(DIRECTORY, &0x83u64.to_le_bytes());
        image.set(DIRECTORY + 24, &0xc000_0083u64.to_le_bytes());
        // A segment of 64-bit code and one of data.
        image.set(SEGMENTS + 8, &0x0020_9a00_0000_0000u64.to_le_bytes());
        image.set(SEGMENTS + 16, &0x00cf_9200_0000_ffffu64.to_le_bytes());
        let marker = image.put(MARKER, 1);
        image.write(marker, MARKER.len() as u64);
        image
    }

    fn set(&mut self, address: u64, bytes: &[u8]) {
        let at = (address - START) as usize;
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// Adds bytes at a multiple of `alignment`; their address.
    pub fn put(&mut self, bytes: &[u8], alignment: usize) -> u64 {
        self.bytes.resize(self.bytes.len().next_multiple_of(alignment), 0);
        let address = START + self.bytes.len() as u64;
        self.bytes.extend(bytes);
        address
    }

    /// As `put`, for bytes that nobody changes.
    pub fn put_once(&mut self, bytes: &[u8], alignment: usize) -> u64 {
        if let Some(address) = self.known.get(bytes) {
            return *address;
        }
        let address = self.put(bytes, alignment);
        self.known.insert(bytes.to_vec(), address);
        address
    }

    /// The machine shall call code.
    pub fn call(&mut self, code: u64, [a, b, c]: [u64; 3]) {
        self.commands.push([code, a, b, c]);
    }

    /// The machine shall write memory to its output.
    pub fn write(&mut self, address: u64, length: u64) {
        self.commands.push([0, address, length, 0]);
    }

    /// The ROM and the memory.
    pub fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        self.commands.push([1, 0, 0, 0]);
        let commands: Vec<u8> = self.commands.iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
        let commands = self.put(&commands, 8);
        self.set(COMMANDS, &commands.to_le_bytes());
        let power = self.put(b"Shutdown", 1);
        self.set(ENTRY, &entry(power, START + self.bytes.len() as u64));
        assert!(self.bytes.len() < (MEGABYTES - 2) << 20, "the machine has less memory than that");
        (rom(), self.bytes)
    }
}

/// The ROM: from the processor's first instruction to 64-bit code.
fn rom() -> Vec<u8> {
    /// Where the place and the size of the segments' table are.
    const TABLE: u16 = 0x100;
    let mut start: Vec<u8> = Vec::new();
    start.extend([0xfa]); // cli
    start.extend([0xb0, 0x02, 0xe6, 0x92]); // mov al, 2; out 0x92, al: addresses have their bit 20
    start.extend([0x0f, 0x20, 0xe0]); // mov eax, cr4
    start.extend([0x66, 0x0d, 0x20, 0x06, 0x04, 0x00]); // or eax, PAE | OSFXSR | OSXMMEXCPT | OSXSAVE
    start.extend([0x0f, 0x22, 0xe0]); // mov cr4, eax
    start.extend([0x66, 0xb8]); // mov eax, START
    start.extend((START as u32).to_le_bytes());
    start.extend([0x0f, 0x22, 0xd8]); // mov cr3, eax
    start.extend([0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0]); // mov ecx, EFER
    start.extend([0x0f, 0x32]); // rdmsr
    start.extend([0x66, 0x0d, 0x00, 0x01, 0x00, 0x00]); // or eax, LME
    start.extend([0x0f, 0x30]); // wrmsr
    start.extend([0x2e, 0x66, 0x0f, 0x01, 0x16]); // lgdt cs:[TABLE]
    start.extend(TABLE.to_le_bytes());
    start.extend([0x0f, 0x20, 0xc0]); // mov eax, cr0
    start.extend([0x66, 0x0d, 0x01, 0x00, 0x00, 0x80]); // or eax, PE | PG
    start.extend([0x0f, 0x22, 0xc0]); // mov cr0, eax
    start.extend([0x66, 0xea]); // jmp 8:ENTRY
    start.extend((ENTRY as u32).to_le_bytes());
    start.extend([0x08, 0x00]);
    let mut rom = vec![0; ROM_BYTES];
    rom[..start.len()].copy_from_slice(&start);
    let table = TABLE as usize;
    rom[table..table + 2].copy_from_slice(&23u16.to_le_bytes());
    rom[table + 2..table + 6].copy_from_slice(&(SEGMENTS as u32).to_le_bytes());
    // The first instruction jumps to the start of the ROM.
    let first = ROM_BYTES - 16;
    rom[first..first + 3].copy_from_slice(&[0xe9, 0x0d, 0x00]);
    rom
}

/// The code that works through the commands; `power` is where the word that switches off is, `end` where the image ends.
///
/// Bochs gives the machine its memory in blocks of 128 KiB, each when it is first touched, but reads the image into what will be given next: so all of
/// it is touched in order before anything else is.
fn entry(power: u64, end: u64) -> Vec<u8> {
    let mut code: Vec<u8> = Vec::new();
    code.extend([0x66, 0xb8, 0x10, 0x00]); // mov ax, 16
    code.extend([0x8e, 0xd8, 0x8e, 0xc0, 0x8e, 0xd0]); // mov ds, ax; mov es, ax; mov ss, ax
    code.push(0xb8); // mov eax, START
    code.extend((START as u32).to_le_bytes());
    code.extend([0x84, 0x00, 0x05, 0x00, 0x00, 0x02, 0x00, 0x3d]); // touch: test [rax], al; add eax, 128 << 10; cmp eax, end
    code.extend((end as u32).to_le_bytes());
    code.extend([0x72, 0xf2]); // jb touch
    code.extend([0x31, 0xc9, 0x31, 0xd2]); // xor ecx, ecx; xor edx, edx
    code.extend([0xb8, 0xe7, 0x00, 0x00, 0x00]); // mov eax, x87 | SSE | AVX | masks | upper halves | upper registers
    code.extend([0x0f, 0x01, 0xd1]); // xsetbv
    code.extend([0xfc, 0xbc]); // cld; mov esp, STACK_END
    code.extend((STACK_END as u32).to_le_bytes());
    code.extend([0x48, 0x8b, 0x1c, 0x25]); // mov rbx, [COMMANDS]
    code.extend((COMMANDS as u32).to_le_bytes());
    let next = code.len();
    code.extend([0x48, 0x8b, 0x03]); // mov rax, [rbx]
    code.extend([0x48, 0x83, 0xf8, 0x01]); // cmp rax, 1
    code.extend([0x72, 0x16]); // jb write
    code.extend([0x74, 0x25]); // je off
    code.extend([0x48, 0x8b, 0x7b, 0x08]); // mov rdi, [rbx + 8]
    code.extend([0x48, 0x8b, 0x73, 0x10]); // mov rsi, [rbx + 16]
    code.extend([0x48, 0x8b, 0x53, 0x18]); // mov rdx, [rbx + 24]
    code.extend([0xff, 0xd0]); // call rax
    let done = code.len();
    code.extend([0x48, 0x83, 0xc3, 0x20]); // add rbx, 32
    let back = next as i64 - (code.len() as i64 + 2);
    code.extend([0xeb, back as i8 as u8]); // jmp next
    // write:
    code.extend([0x48, 0x8b, 0x73, 0x08]); // mov rsi, [rbx + 8]
    code.extend([0x48, 0x8b, 0x4b, 0x10, 0xba]); // mov rcx, [rbx + 16]; mov edx, OUTPUT_PORT
    code.extend(OUTPUT_PORT.to_le_bytes());
    code.extend([0xf3, 0x6e]); // rep outsb
    let back = done as i64 - (code.len() as i64 + 2);
    code.extend([0xeb, back as i8 as u8]); // jmp done
    // off:
    code.push(0xbe); // mov esi, power
    code.extend((power as u32).to_le_bytes());
    code.extend([0xb9, 0x08, 0x00, 0x00, 0x00, 0xba]); // mov ecx, 8; mov edx, POWER_PORT
    code.extend(POWER_PORT.to_le_bytes());
    code.extend([0xf3, 0x6e, 0xf4, 0xeb, 0xfd]); // rep outsb; hlt; jmp back to it
    code
}

/// The settings of Bochs for files in a folder: a processor with AVX-512 that stops where it meets a fault, and no screen.
pub fn settings(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "memory: guest={MEGABYTES}, host={MEGABYTES}\n\
         romimage: file={folder}/rom, address=0xffff0000\n\
         optramimage1: file={folder}/memory, address={START:#x}\n\
         cpu: model=corei7_skylake_x, count=1, ips=50000000, reset_on_triple_fault=0\n\
         display_library: rfb, options=\"timeout=0\"\n\
         sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy\n\
         log: {folder}/log\n\
         port_e9_hack: enabled=1\n\
         panic: action=fatal\nerror: action=report\ninfo: action=ignore\ndebug: action=ignore\n"
    )
}

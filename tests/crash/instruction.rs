//! The effect of an instruction of this program, as far as its first bytes show it.

/// The bytes of `syscall`.
pub const SYSTEM_CALL: [u8; 2] = [0x0f, 0x05];

/// Returns the byte at this offset of the instruction at `address`.
fn byte(address: u64, offset: u64) -> u8 {
    // SAFETY: the text of the child is ours, and is read only as far as the instruction goes.
    unsafe { *((address + offset) as *const u8) }
}

/// Returns the offset of the first byte that is not a prefix, or is `lock`.
fn legacy_prefixes(address: u64) -> u64 {
    let is_prefix = |offset: &u64| {
        matches!(byte(address, *offset), 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf2 | 0xf3)
    };
    (0..).find(|offset| !is_prefix(offset)).unwrap_or(0)
}

/// Returns whether the instruction at `address` is a system call.
pub fn is_system_call(address: u64) -> bool {
    (0..2).all(|offset| byte(address, offset) == SYSTEM_CALL[offset as usize])
}

/// Returns whether the instruction at `address` is a system call, has a `lock` prefix, or is an
/// `xchg` with memory, which needs none.
pub fn is_visible(address: u64) -> bool {
    let mut at = legacy_prefixes(address);
    if byte(address, at) == 0xf0 {
        return true;
    }
    if matches!(byte(address, at), 0x40..=0x4f) {
        at += 1;
    }
    match byte(address, at) {
        0x0f => byte(address, at + 1) == 0x05,
        0x86 | 0x87 => byte(address, at + 1) >> 6 != 3,
        _ => false,
    }
}

/// Returns whether the instruction at `address` may change memory that is not on the stack. False
/// only for frequent instructions that certainly do not.
pub fn may_store(address: u64) -> bool {
    let mut at = legacy_prefixes(address);
    let mut has_high_base = false;
    if let rex @ 0x40..=0x4f = byte(address, at) {
        has_high_base = rex & 1 != 0;
        at += 1;
    }
    match byte(address, at) {
        // Arithmetic, comparison, test and move into a register.
        0x02 | 0x03 | 0x0a | 0x0b | 0x12 | 0x13 | 0x1a | 0x1b | 0x22 | 0x23 | 0x2a | 0x2b | 0x32 | 0x33 => {
            false
        }
        0x38..=0x3d | 0x63 | 0x84 | 0x85 | 0x8a | 0x8b | 0x8d | 0xa8 | 0xa9 | 0xb0..=0xbf => false,
        // Stack and control flow.
        0x50..=0x5f | 0x70..=0x7f | 0x90 | 0xc3 | 0xc9 | 0xe8 | 0xe9 | 0xeb => false,
        // Jumps, `cmov`, `movzx` and `movsx`, and loads into vector registers.
        0x0f => !matches!(
            byte(address, at + 1),
            0x10 | 0x1f | 0x28 | 0x40..=0x4f | 0x6f | 0x80..=0x8f | 0xb6 | 0xb7 | 0xbe | 0xbf
        ),
        // Arithmetic and move to a register, or to memory by the stack pointer.
        0x00
        | 0x01
        | 0x08
        | 0x09
        | 0x20
        | 0x21
        | 0x28
        | 0x29
        | 0x30
        | 0x31
        | 0x80..=0x83
        | 0x88
        | 0x89
        | 0xc0
        | 0xc1
        | 0xc6
        | 0xc7
        | 0xd0..=0xd3
        | 0xf6
        | 0xf7 => {
            let (modes, scaled) = (byte(address, at + 1), byte(address, at + 2));
            let is_register = modes >> 6 == 3;
            let is_on_stack = modes & 7 == 4 && scaled & 7 == 4 && !has_high_base;
            !is_register && !is_on_stack
        }
        _ => true,
    }
}

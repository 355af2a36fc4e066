//! How much of the stack is left.

use std::hint::black_box;
use std::mem::MaybeUninit;

use pgrx::pg_sys;

/// In bytes.
const FRAME: usize = 16_384;

/// Is a quarter of what `max_stack_depth` allows left? Whoever calls something decides how deep: he may have left it nothing.
pub fn has_room() -> bool {
    // SAFETY: a setting, in kB.
    let allowed = unsafe { pg_sys::max_stack_depth }.max(0) as usize * 1024;
    goes_down(allowed / 4)
}

/// Goes so many bytes down, unless the server says before that it is too deep: well before the stack's real end.
#[inline(never)]
fn goes_down(bytes: usize) -> bool {
    let frame = MaybeUninit::<[u8; FRAME]>::uninit();
    // SAFETY: compares addresses.
    let is_too_deep = unsafe { pg_sys::stack_is_too_deep() };
    let went = !is_too_deep && (bytes <= FRAME || goes_down(bytes - FRAME));
    black_box(&frame);
    went
}

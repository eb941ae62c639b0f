//! The system's allocator, but planes of frames get pages of 2 MiB where the kernel gives
//! them on request (`/sys/kernel/mm/transparent_hugepage/enabled`: madvise). A frame's
//! planes come and go with each step, and at 4 KiB a page the kernel's work for a new one
//! was a sixth of a night's time.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::NonNull;

use rustix::mm::{Advice, madvise};

/// Bytes from which memory is worth it.
const LARGE: usize = 4 << 20;
/// The kernel takes whole pages alone.
const PAGE: usize = 4096;

/// See above.
pub(super) struct HugePages;

/// Asks for large pages in what was allocated; where that fails, small ones do as well.
fn advise(start: *mut u8, size: usize) {
    let skipped = start.align_offset(PAGE);
    let whole = size.saturating_sub(skipped) / PAGE * PAGE;
    if size < LARGE || start.is_null() || whole == 0 {
        return;
    }
    if let Some(first) = NonNull::new(start.wrapping_add(skipped)) {
        // SAFETY: the range lies in memory that was just allocated, and the advice changes
        // neither its contents nor what may be done with it.
        let _ = unsafe { madvise(first.as_ptr().cast(), whole, Advice::LinuxHugepage) };
    }
}

// SAFETY: every call is the system allocator's, with the same arguments and result.
unsafe impl GlobalAlloc for HugePages {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let start = unsafe { System.alloc(layout) };
        advise(start, layout.size());
        start
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller promises.
        let start = unsafe { System.alloc_zeroed(layout) };
        advise(start, layout.size());
        start
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(start, layout) };
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as the caller promises.
        let start = unsafe { System.realloc(start, layout, size) };
        advise(start, size);
        start
    }
}

//! Arrays and formulas. Each dispatch has one stem: `shaders/<stem>.wgsl` and
//! `src/kernels/<stem>` hold the same computation, one for the GPU engine, one for
//! the CPU engine; the formulas are generic over f32 and f64, and in f64 they are
//! the reference of both.
//!
//! A kernel sees storage buffers of 32-bit words (f32 by bit pattern, u32) and a
//! small block of parameters. It knows nothing of files, keywords or devices.

pub mod calibrate;
pub mod charge_migration;
pub mod combine;
pub mod cosmic;
pub mod dark_ramp;
pub mod extract;
pub mod factored;
pub mod ipc;
pub mod jump_spread;
pub mod laplacian;
mod layout;
pub mod likely;
pub mod linearity_reads;
pub mod median;
#[cfg(test)]
pub(crate) mod normal;
pub mod ols_c;
pub mod ramp;
mod real;
pub mod shrink;
mod stored;
#[cfg(test)]
pub(crate) mod stored_tests;
pub mod two_point;

pub use layout::{Field, Layout};
pub use real::Real;

/// Whether a kernel reads or writes a buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Written, and perhaps read.
    Write,
}

/// One dispatch: its name, its two forms and its bindings.
///
/// In WGSL, buffer `i` is `@group(0) @binding(i)`, the parameters are a uniform
/// at the binding after the last buffer, the entry point is `main`, workgroups
/// are 64 × 1 × 1 and the item index is [`prelude`](WGSL_PRELUDE)'s `item(…)`.
pub struct Kernel {
    /// The name of both files.
    pub stem: &'static str,
    /// WGSL sources, concatenated after [`WGSL_PRELUDE`]; the constants that a
    /// dispatch gives are declared in front.
    pub wgsl: &'static [&'static str],
    /// Those constants, each with a typical value.
    pub constants: &'static [(&'static str, u32)],
    /// The parameter block.
    pub params: Layout,
    /// The buffers, in order.
    pub access: &'static [Access],
    /// The CPU form.
    pub cpu: fn(&mut Args<'_>),
}

impl std::fmt::Debug for Kernel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.stem)
    }
}

/// WGSL in front of every kernel.
pub const WGSL_PRELUDE: &str = include_str!("../../shaders/lib/prelude.wgsl");

/// Length of a GPU thread's private arrays for so many `reads`: in steps, for few
/// pipelines, and small ones, since a driver may clear them entry by entry (Mesa's
/// software driver compiles 512 in minutes).
pub fn array_length(reads: usize) -> u32 {
    let reads = reads as u32;
    if reads > 16 { reads.next_multiple_of(16) } else { reads.next_power_of_two().max(4) }
}

impl Kernel {
    /// The whole WGSL source with `constants` declared as `const NAME: u32`.
    pub fn source(&self, constants: &[(&'static str, u32)]) -> String {
        let mut text = String::new();
        for (name, value) in constants {
            text += &format!("const {name}: u32 = {value}u;\n");
        }
        text += WGSL_PRELUDE;
        self.wgsl.iter().for_each(|part| text += part);
        text
    }
}

/// A bound buffer on the CPU engine.
#[derive(Debug)]
pub enum Bound<'a> {
    /// Read only.
    Read(&'a [u32]),
    /// Writable.
    Write(&'a mut [u32]),
}

impl Bound<'_> {
    /// As words.
    pub fn words(&self) -> &[u32] {
        match self {
            Bound::Read(w) => w,
            Bound::Write(w) => w,
        }
    }

    /// As f32.
    pub fn floats(&self) -> &[f32] {
        bytemuck::cast_slice(self.words())
    }

    /// As words to write; empty where the binding is read-only.
    pub fn words_mut(&mut self) -> &mut [u32] {
        match self {
            Bound::Read(_) => &mut [],
            Bound::Write(w) => w,
        }
    }

    /// As f32 to write; empty where the binding is read-only.
    pub fn floats_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(self.words_mut())
    }
}

/// What the CPU form of a kernel is given.
#[derive(Debug)]
pub struct Args<'a> {
    /// Number of items (invocations).
    pub items: usize,
    /// The parameter block.
    pub params: &'a [u32],
    /// The buffers, in the order of [`Kernel::access`].
    pub buffers: Vec<Bound<'a>>,
}

impl Args<'_> {
    /// The parameter block as the kernel's own.
    pub fn params_as<P: bytemuck::AnyBitPattern>(&self) -> P {
        bytemuck::pod_read_unaligned(bytemuck::cast_slice(&self.params[..size_of::<P>() / 4]))
    }
}

/// Every kernel, for validation and for building all pipelines at start-up.
pub fn all() -> Vec<&'static Kernel> {
    vec![
        &calibrate::CALIBRATE,
        &charge_migration::CHARGE_MIGRATION,
        &combine::COMBINE,
        &cosmic::COSMIC,
        &dark_ramp::DARK_RAMP,
        &extract::EXTRACT,
        &factored::DIAGONAL,
        &factored::FOLD,
        &factored::LIGHT,
        &factored::STEP,
        &factored::TAKE,
        &factored::TURN,
        &ipc::IPC,
        &jump_spread::JUMP_SPREAD,
        &laplacian::LAPLACIAN,
        &likely::LIKELY,
        &linearity_reads::LINEARITY_READS,
        &median::MEDIAN,
        &ols_c::OLS_C,
        &ramp::RAMP,
        &two_point::TWO_POINT,
    ]
}

//! Functions compiled for the widest vectors that the machine has.

use std::sync::atomic::{AtomicU8, Ordering};

/// Instruction sets that functions are compiled for, narrowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// What every machine of the architecture has (SSE2, NEON).
    Plain,
    /// AVX2.
    Avx2,
    /// AVX-512 with its VL, BW and DQ parts.
    Avx512,
}

/// All of them.
pub(crate) const LEVELS: [Level; 3] = [Level::Plain, Level::Avx2, Level::Avx512];

static MOST: AtomicU8 = AtomicU8::new(Level::Avx512 as u8);

/// Lets functions use nothing wider than `level`: for comparisons.
pub(crate) fn limit(level: Level) {
    MOST.store(level as u8, Ordering::Relaxed);
}

/// The widest that the machine has and [`limit`] allows. A debug build, where
/// compiling counts, has the plain form alone.
pub(crate) fn level() -> Level {
    let most = MOST.load(Ordering::Relaxed);
    LEVELS.into_iter().rfind(|l| *l as u8 <= most && has(*l)).unwrap_or(Level::Plain)
}

fn has(level: Level) -> bool {
    #[cfg(all(target_arch = "x86_64", not(debug_assertions)))]
    return match level {
        Level::Plain => true,
        Level::Avx2 => is_x86_feature_detected!("avx2"),
        Level::Avx512 => {
            is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512vl")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
        }
    };
    #[cfg(not(all(target_arch = "x86_64", not(debug_assertions))))]
    return level == Level::Plain;
}

/// Makes a function that calls `$inner` as compiled for [`level`]. `$inner` must be
/// `#[inline(always)]`, with all the loops that matter. Nothing is fused or reordered:
/// every instruction set gives the same bits.
macro_rules! widest {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $type:ty),* $(,)?) $(-> $out:ty)? = $inner:path) => {
        $(#[$doc])*
        $vis fn $name($($arg: $type),*) $(-> $out)? {
            #[cfg(all(target_arch = "x86_64", not(debug_assertions)))]
            {
                #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
                fn avx512($($arg: $type),*) $(-> $out)? {
                    $inner($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2($($arg: $type),*) $(-> $out)? {
                    $inner($($arg),*)
                }
                match $crate::simd::level() {
                    // SAFETY: the features were detected.
                    $crate::simd::Level::Avx512 => return unsafe { avx512($($arg),*) },
                    // SAFETY: the feature was detected.
                    $crate::simd::Level::Avx2 => return unsafe { avx2($($arg),*) },
                    $crate::simd::Level::Plain => {}
                }
            }
            $inner($($arg),*)
        }
    };
}

pub(crate) use widest;

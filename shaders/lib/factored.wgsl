// What the kernels of `factored` share; layouts: src/kernels/factored.

const SEG: u32 = 64u;
const REACH: u32 = 8u;
const TAPS: u32 = 17u;
const WIDE: u32 = 80u;
const ENTRY: u32 = 7u;
const NONE: u32 = 0xffffffffu;

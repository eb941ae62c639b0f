// In front of every kernel.

// The item of an invocation: dispatches of more than 65535 workgroups are
// folded into two dimensions.
fn item(id: vec3<u32>, groups: vec3<u32>) -> u32 {
    return id.x + id.y * groups.x * 64u;
}

// Bits of a quiet NaN. NaN is never computed, only stored.
const NAN_BITS: u32 = 0x7fc00000u;

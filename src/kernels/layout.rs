//! Parameter blocks whose layout is known by name, to be compared with WGSL's.

/// A field of a parameter block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// Its name, the same in Rust and WGSL.
    pub name: &'static str,
    /// Its Rust type, as written.
    pub ty: &'static str,
    /// Bytes from the start of the block.
    pub offset: usize,
    /// Bytes.
    pub size: usize,
}

/// The fields of a parameter block in order, and its size.
#[derive(Debug, Clone, Copy)]
pub struct Layout {
    /// The fields.
    pub fields: &'static [Field],
    /// Bytes of the whole.
    pub size: usize,
}

/// Declares a kernel's parameter block: a `#[repr(C)]` struct of 32-bit numbers
/// (or arrays of them), and its [`Layout`] as `LAYOUT`.
macro_rules! params {
    (
        $(#[$doc:meta])*
        pub struct $name:ident { $($(#[$field_doc:meta])* pub $field:ident: $ty:ty,)* }
    ) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, bytemuck::Pod, bytemuck::Zeroable)]
        #[repr(C)]
        pub struct $name {
            $($(#[$field_doc])* pub $field: $ty,)*
        }

        impl $name {
            /// Its fields, as the WGSL struct must have them.
            pub const LAYOUT: $crate::kernels::Layout = $crate::kernels::Layout {
                fields: &[$($crate::kernels::Field {
                    name: stringify!($field),
                    ty: stringify!($ty),
                    offset: std::mem::offset_of!($name, $field),
                    size: size_of::<$ty>(),
                }),*],
                size: size_of::<$name>(),
            };
        }
    };
}
pub(crate) use params;

//! Files in every layout, whole and damaged: what the tests share.

mod damaged;
mod frames;
mod ramps;
mod reads;

use std::path::{Path, PathBuf};

use super::*;
use crate::datamodel::dq;
use crate::fits::{FitsWriter, Header, Pixels};

const RAMPS: usize = 2;
const READS: usize = 3;
const NY: usize = 5;
const NX: usize = 4;

/// The value of a pixel, the same in every layout.
fn value(ramp: usize, read: usize, y: usize, x: usize) -> u16 {
    ((ramp * 30000 + read * 9000 + y * 700 + x * 61) % 65536) as u16
}

/// Pixels in native order.
fn native() -> Vec<u16> {
    let mut out = Vec::new();
    for i in 0..RAMPS * READS * NY * NX {
        out.push(value(i / (READS * NY * NX), i / (NY * NX) % READS, i / NX % NY, i % NX));
    }
    out
}

/// Pixels in liger's order.
fn liger() -> Vec<u16> {
    let mut out = Vec::new();
    for i in 0..RAMPS * READS * NY * NX {
        out.push(value(i / READS % RAMPS, i % READS, i / (RAMPS * READS * NX), i / (RAMPS * READS) % NX));
    }
    out
}

struct Files {
    dir: tempfile::TempDir,
}

impl Files {
    fn new() -> Files {
        Files { dir: tempfile::tempdir().expect("temp dir") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, cards: &[(&str, f64)], hdus: &[(&str, &[usize], Pixels<'_>)]) -> PathBuf {
        let mut header = Header::new();
        header.set("DETECTOR", "IMG1", "");
        for (key, v) in cards {
            if v.fract() == 0.0 { header.set(key, *v as i64, "") } else { header.set(key, *v, "") }
        }
        let path = self.path(name);
        let mut w = FitsWriter::create(&path).expect("create");
        w.empty("PRIMARY", &header).expect("primary");
        for (name, shape, pixels) in hdus {
            w.image(name, &Header::new(), shape, *pixels).expect("image");
        }
        w.finish().expect("finish")
    }
}

const NATIVE: [usize; 4] = [RAMPS, READS, NY, NX];
const LIGER: [usize; 4] = [NY, NX, RAMPS, READS];
const TIMES: [f64; 6] = [1.5, 3.0, 4.5, 1.5, 3.0, 4.5];

fn open_it(path: &Path) -> Result<Raw> {
    open(path, &Instrument::iris().expect("iris"), &OpenOptions::default())
}

fn ramp(path: &Path) -> Ramp {
    match open_it(path) {
        Ok(Raw::Ramp(r)) => r,
        other => panic!("not a ramp: {other:?}"),
    }
}

fn failure(path: &Path) -> String {
    open_it(path).expect_err("must fail").to_string()
}

/// All values of the ramp, read in chunks of `rows`, in native order.
fn values(r: &Ramp, rows: usize) -> Vec<f64> {
    let mut out = vec![0.0; r.ramps * r.reads * r.ny * r.nx];
    for first in (0..r.ny).step_by(rows) {
        let n = rows.min(r.ny - first);
        let mut bytes = vec![0; r.chunk_bytes(n)];
        r.read_rows(first..first + n, &mut bytes).expect("rows");
        let s = r.strides(n);
        for i in 0..r.ramps * r.reads * n * r.nx {
            let (x, y, read, ramp) =
                (i % r.nx, i / r.nx % n, i / (r.nx * n) % r.reads, i / (r.nx * n * r.reads));
            let at = (ramp * s.ramp + read * s.read + y * s.y + x * s.x) * r.encoding.bytes();
            let b = &bytes[at..at + r.encoding.bytes()];
            let v = match r.encoding {
                Encoding::U16 => f64::from(u16::from_be_bytes([b[0], b[1]]) ^ 0x8000),
                Encoding::I16 => f64::from(i16::from_be_bytes([b[0], b[1]])),
                Encoding::I32 => f64::from(i32::from_be_bytes([b[0], b[1], b[2], b[3]])),
                Encoding::F32 => f64::from(f32::from_be_bytes([b[0], b[1], b[2], b[3]])),
            };
            out[((ramp * r.reads + read) * r.ny + first + y) * r.nx + x] = v;
        }
    }
    out
}

fn as_f64<T: Copy + Into<f64>>(v: &[T]) -> Vec<f64> {
    v.iter().map(|v| (*v).into()).collect()
}

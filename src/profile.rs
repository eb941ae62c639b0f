//! Where the time goes: spans of work by kind, summed for the end of a run and, on
//! request, as a timeline that a browser's trace viewer opens (`chrome://tracing`,
//! Perfetto: the Trace Event Format's complete events).
//!
//! A span counts without the spans within it, so that kinds add up to the time of
//! tasks: what threads do at the same time for one of them is in its time already.

use std::borrow::Cow;
use std::cell::RefCell;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, Mutex};
use std::time::Instant;

use crate::error::{Error, Result};

/// What the time went for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Work {
    /// Raw exposures and products read.
    Read,
    /// Reference files and masters read and checked.
    References,
    /// To the device.
    Upload,
    /// Kernels; on a GPU the wait for them and for what comes back.
    Compute,
    /// Products written, up to their sync.
    Write,
    /// Waiting for the disk to have them.
    Sync,
    /// Everything else of a task.
    Task,
}

/// Every kind, in the order of [`Work`] and of what is shown.
pub const WORK: [Work; 7] =
    [Work::Read, Work::References, Work::Upload, Work::Compute, Work::Write, Work::Sync, Work::Task];

impl Work {
    /// In a word.
    pub fn word(self) -> &'static str {
        match self {
            Work::Read => "read",
            Work::References => "references",
            Work::Upload => "upload",
            Work::Compute => "compute",
            Work::Write => "write",
            Work::Sync => "sync",
            Work::Task => "other",
        }
    }
}

/// Nanoseconds and bytes of one kind.
struct Counter {
    nanoseconds: AtomicU64,
    bytes: AtomicU64,
}

static COUNTERS: [Counter; WORK.len()] =
    [const { Counter { nanoseconds: AtomicU64::new(0), bytes: AtomicU64::new(0) } }; WORK.len()];
static START: LazyLock<Instant> = LazyLock::new(Instant::now);
static TRACE: Mutex<Option<Trace>> = Mutex::new(None);

/// The spans that are open on a thread.
struct Open {
    /// Nanoseconds within each that went for spans inside it.
    within: Vec<u64>,
    /// How many of them are tasks. Where none is, the thread works for a span of
    /// another one, whose time it is.
    tasks: usize,
}

thread_local! {
    static OPEN: RefCell<Open> = const { RefCell::new(Open { within: Vec::new(), tasks: 0 }) };
}

/// Seconds and bytes of one kind so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Total {
    /// The kind.
    pub kind: Work,
    /// Seconds, without those of spans within.
    pub seconds: f64,
    /// Bytes moved.
    pub bytes: u64,
}

/// What each kind took since `before`.
pub fn since(before: &[Total; WORK.len()]) -> [Total; WORK.len()] {
    let mut now = totals();
    for (now, before) in now.iter_mut().zip(before) {
        now.seconds -= before.seconds;
        now.bytes -= before.bytes;
    }
    now
}

/// What each kind took so far, in this process.
pub fn totals() -> [Total; WORK.len()] {
    WORK.map(|kind| {
        let counter = &COUNTERS[kind as usize];
        Total {
            kind,
            seconds: counter.nanoseconds.load(Ordering::Relaxed) as f64 * 1e-9,
            bytes: counter.bytes.load(Ordering::Relaxed),
        }
    })
}

/// A piece of work that is going on; it ends when this is dropped.
#[must_use = "the span ends when it is dropped"]
#[derive(Debug)]
pub struct Span {
    kind: Work,
    name: Cow<'static, str>,
    start: Instant,
    bytes: u64,
}

/// Begins a span. `name` says what is done, on what.
pub fn span(kind: Work, name: impl Into<Cow<'static, str>>) -> Span {
    LazyLock::force(&START);
    OPEN.with_borrow_mut(|open| {
        open.within.push(0);
        open.tasks += usize::from(kind == Work::Task);
    });
    Span { kind, name: name.into(), start: Instant::now(), bytes: 0 }
}

impl Span {
    /// That so many bytes are moved by it.
    pub fn bytes(mut self, bytes: u64) -> Span {
        self.bytes += bytes;
        self
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        let whole = self.start.elapsed().as_nanos() as u64;
        let own = OPEN.with_borrow_mut(|open| {
            let counts = open.tasks > 0;
            open.tasks -= usize::from(self.kind == Work::Task);
            let within = open.within.pop().unwrap_or(0);
            if let Some(outer) = open.within.last_mut() {
                *outer += whole;
            }
            if counts { whole.saturating_sub(within) } else { 0 }
        });
        if own > 0 {
            let counter = &COUNTERS[self.kind as usize];
            counter.nanoseconds.fetch_add(own, Ordering::Relaxed);
            counter.bytes.fetch_add(self.bytes, Ordering::Relaxed);
        }
        if let Ok(mut trace) = TRACE.lock()
            && let Some(trace) = trace.as_mut()
        {
            trace.event(self, whole, own);
        }
    }
}

/// A timeline being written.
struct Trace {
    to: BufWriter<File>,
    error: Option<std::io::Error>,
}

impl Trace {
    fn event(&mut self, span: &Span, nanoseconds: u64, own: u64) {
        let start = span.start.saturating_duration_since(*START).as_nanos() as f64 * 1e-3;
        let event = serde_json::json!({
            "name": span.name, "cat": span.kind.word(), "ph": "X", "pid": 1, "tid": thread(),
            "ts": start, "dur": nanoseconds as f64 * 1e-3, "args": { "bytes": span.bytes, "own": own as f64 * 1e-3 },
        });
        if let Err(e) = writeln!(self.to, "{event},") {
            self.error.get_or_insert(e);
        }
    }
}

/// A small number for the current thread.
fn thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local!(static OWN: u64 = NEXT.fetch_add(1, Ordering::Relaxed));
    OWN.with(|n| *n)
}

/// Writes every span from now on to `path`, as JSON.
pub fn trace(path: &Path) -> Result<()> {
    let mut to = BufWriter::new(File::create(path).map_err(Error::io("create", path))?);
    to.write_all(b"[\n").map_err(Error::io("write", path))?;
    LazyLock::force(&START);
    if let Ok(mut trace) = TRACE.lock() {
        *trace = Some(Trace { to, error: None });
    }
    Ok(())
}

/// Ends the timeline that [`trace`] began at `path`, if it did.
pub fn end_trace(path: &Path) -> Result<()> {
    let Some(mut trace) = TRACE.lock().ok().and_then(|mut t| t.take()) else { return Ok(()) };
    let name = serde_json::json!({
        "name": "process_name", "ph": "M", "pid": 1, "args": { "name": "irisgpu" },
    });
    let ended = match trace.error.take() {
        Some(e) => Err(e),
        None => writeln!(trace.to, "{name}\n]").and_then(|()| trace.to.flush()),
    };
    ended.map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_span_counts_without_those_within_it_and_the_timeline_is_json() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("trace.json");
        trace(&path).expect("trace");
        // Other tests count, too: what is counted can only be more.
        let before = totals();
        {
            let _task = span(Work::Task, "task");
            let _outer = span(Work::Sync, "outer");
            let _inner = span(Work::Upload, "in \"quotes\"").bytes(7);
            std::thread::sleep(Duration::from_millis(20));
        }
        let (before, after) = (before[Work::Upload as usize], totals()[Work::Upload as usize]);
        std::thread::spawn(|| drop(span(Work::Read, "worker's"))).join().expect("thread");
        end_trace(&path).expect("end");
        assert!(after.seconds >= before.seconds + 0.02 && after.bytes >= before.bytes + 7, "{after:?}");
        let text = std::fs::read_to_string(&path).expect("read");
        let events: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let named = |n: &str| events.as_array().into_iter().flatten().find(|e| e["name"] == n).cloned();
        let (outer, inner) = (named("outer").expect("outer"), named("in \"quotes\"").expect("inner"));
        let own = |e: &serde_json::Value| e["args"]["own"].as_f64().expect("own");
        assert_eq!(own(&named("worker's").expect("worker's")), 0.0);
        assert!(own(&inner) >= 2e4 && own(&outer) < own(&inner), "{outer} {inner}");
        assert!(
            inner["ts"].as_f64() >= outer["ts"].as_f64() && inner["dur"].as_f64() <= outer["dur"].as_f64()
        );
    }
}
